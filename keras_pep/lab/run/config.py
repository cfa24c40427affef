"""The settings of a run, and what they build."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import keras

from keras_pep import data
from keras_pep.lab.baselines import (
    BudgetTooSmallError,
    MixedDimensionEmbedding,
    mixed_dimensions,
)
from keras_pep.layers import PEPEmbedding
from keras_pep.models import (
    FM,
    AutoInt,
    DeepFM,
    FieldModel,
    LogisticRegression,
)
from keras_pep.optimizers import AdamL2, LazyAdam


@dataclass(frozen=True)
class Preset:
    """What a model is trained with unless other settings are asked for.

    Attributes:
        kind: The model.
        settings: Arguments of it.
        learning_rate: Of Adam, for the full table.
        faster_search: The search by budget multiplies the learning rate by it.
        faster_retraining: So does retraining, at its beginning.
        search_epochs: Length of the search by budget, at most.
        retrain_epochs: Length of retraining, at most.
    """

    kind: type[FieldModel]
    settings: Mapping[str, Any] = field(default_factory=dict)
    learning_rate: float = 1e-3
    faster_search: float = 1.0
    faster_retraining: float = 3.0
    search_epochs: int = 14
    retrain_epochs: int = 14


@dataclass(frozen=True)
class Schedule:
    """Epochs and first learning rates of search and retraining."""

    search_epochs: int
    retrain_epochs: int
    search_rate: float
    retrain_rate: float


_PERCEPTRON = {"hidden_units": (100, 100), "dropout": 0.2}
_ATTENTION = {"num_layers": 3, "num_heads": 2, "attention_units": 64}

# Settings and rates of dense models, and what fm multiplies its rate by, were
# chosen on validation of MovieLens-1M: see apps/reproduce/LOG.md. What the
# others multiply theirs by has not been varied.
PRESETS: Mapping[str, Preset] = {
    "lr": Preset(LogisticRegression),
    "fm": Preset(
        FM,
        faster_search=3.0,
        faster_retraining=10.0,
        search_epochs=20,
        retrain_epochs=16,
    ),
    "deepfm": Preset(DeepFM, _PERCEPTRON),
    "autoint": Preset(
        AutoInt,
        _ATTENTION,
        learning_rate=3e-3,
        faster_retraining=1.0,
        search_epochs=12,
        retrain_epochs=12,
    ),
    "autoint+": Preset(AutoInt, {**_ATTENTION, **_PERCEPTRON}),
}
# Retraining ends at a learning rate of zero and began at a higher one, with
# which the same L2 would be too much.
_RETRAINING_L2 = 0.5
# Epochs of search and retraining in those that the dense model needs.
_LONGER = 1.5
_PAPER_EPOCHS = 40  # of the paper's search, at most
_LARGE = 0.1  # share of the table; what keeps as much needs all of the L2

OPTIMIZERS: Mapping[str, type[AdamL2]] = {
    "adam": AdamL2,
    "lazy_adam": LazyAdam,
}

# Keras returns to Python after so many steps. The paper's search has to look at
# every step.
_STEPS_PER_EXECUTION = {"budget": 8, "paper": 1}

# What is searched for if nothing is asked for. By the paper's method small
# budgets may never be reached.
DEFAULT_SPARSITIES = {"budget": (0.8, 0.9, 0.95), "paper": (0.8,)}
# Tickets by a threshold that all entries share are as good, and cost half.
DEFAULT_GRANULARITIES = {"budget": "global", "paper": "feature_dimension"}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides what a run computes.

    The fields are the options of `keras-pep train`, and explained there.
    """

    dataset: str = "synthetic"
    data_dir: str | None = None
    features: str | None = None
    label: str | None = None
    fields: tuple[str, ...] = ()
    delimiter: str | None = None
    min_count: int = 10
    max_bad_rows: float = 0.001
    cache_dir: str | None = None
    model: str = "fm"
    embedding_dim: int = 64
    granularity: str | None = None
    search: str = "budget"
    search_epochs: int | None = None
    search_dim: int | None = None
    search_rate: float | None = None
    threshold_init: float = -15.0
    linear: str = "dense"
    deep: bool = False
    budget: tuple[int, ...] = ()
    sparsity: tuple[float, ...] = ()
    retrain: str = "rewind"
    retrain_epochs: int | None = None
    retrain_rate: float | None = None
    distillation: float = 0.5
    optimizer: str = "adam"
    learning_rate: float | None = None
    batch_size: int = 1024
    l2: float = 1e-5
    max_epochs: int = 40
    patience: int = 2
    seed: int = 0
    baseline: bool = True
    compare: tuple[str, ...] = ()
    export: bool = False
    distribute: str = "none"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        """The settings that `asdict` of this class, read back, describes."""
        tuples = {
            name: tuple(values.get(name, ()))
            for name in ("fields", "budget", "sparsity", "compare")
        }
        return cls(**{**values, **tuples})

    @classmethod
    def of_run(cls, settings: Mapping[str, Any]) -> "Config":
        """The settings in the `config.json` of a run, which has more.

        Raises:
            KeyError: If one is missing.
        """
        return cls.from_dict(
            {each.name: settings[each.name] for each in fields(cls)}
        )

    def to_dict(self) -> dict[str, Any]:
        """The settings by name, as they were given."""
        return asdict(self)

    def derived(self) -> dict[str, Any]:
        """What follows from them where nothing was given."""
        return {
            "learning_rate": self.rate(),
            "search_dim": self.dim_of_search(),
            "granularity": self.shared_by(),
            "distillation": self.share_of_dense(),
        }

    def load_data(
        self, say: Callable[[str], None] = lambda _: None
    ) -> data.Dataset:
        """Loads the dataset, and says what takes long."""
        return data.load(
            self.dataset,
            self.data_dir,
            features=self.features,
            label=self.label,
            fields=self.fields,
            delimiter=self.delimiter,
            min_count=self.min_count,
            seed=self.seed,
            max_bad_rows=self.max_bad_rows,
            cache_dir=self.cache_dir,
            say=say,
        )

    def budgets(self, parameters: int) -> list[int]:
        """The budgets asked for, falling, for a table of that many entries."""
        sparsities = self.sparsity
        if not self.budget and not sparsities:
            sparsities = DEFAULT_SPARSITIES[self.search]
        shares = {round((1 - sparsity) * parameters) for sparsity in sparsities}
        return sorted({*self.budget, *shares}, reverse=True)

    def schedule(self, best_epoch: int | None = None) -> Schedule:
        """How long and how fast search and retraining go.

        Where a full table is at its best after a few epochs, and learns by
        heart from then on, small ones do not train much longer, nor faster by
        more than the number of these epochs.

        Args:
            best_epoch: After how many epochs the dense model was at its best,
                if it has been trained.
        """
        rate, preset = self.rate(), self._preset
        if self.search == "paper":
            longest = self.max_epochs
            return Schedule(
                self.search_epochs or _PAPER_EPOCHS,
                self.retrain_epochs or longest,
                rate,
                rate,
            )

        def within(epochs: int) -> int:
            if best_epoch is None:
                return epochs
            return min(epochs, math.ceil(_LONGER * best_epoch))

        def at_most(multiple: float) -> float:
            return rate * min(multiple, best_epoch or multiple)

        return Schedule(
            self.search_epochs or within(preset.search_epochs),
            self.retrain_epochs
            or min(within(preset.retrain_epochs), self.max_epochs),
            self.search_rate or at_most(preset.faster_search),
            self.retrain_rate or at_most(preset.faster_retraining),
        )

    def shared_by(self) -> str:
        """The granularity: which entries share a threshold."""
        return self.granularity or DEFAULT_GRANULARITIES[self.search]

    def rate(self) -> float:
        """The learning rate of the dense model."""
        if self.learning_rate is not None:
            return self.learning_rate
        return self._preset.learning_rate

    def share_of_dense(self) -> float:
        """The weight of the dense model's probabilities in the labels."""
        as_in_paper = self.search == "paper" or not self.baseline
        return 0.0 if as_in_paper else self.distillation

    @property
    def _preset(self) -> Preset:
        return PRESETS[self.model + "+" * self.deep]

    def dim_of_search(self) -> int:
        """How many columns the searched table has."""
        return self.search_dim or self.embedding_dim

    def parameters(self, dataset: data.Dataset) -> int:
        """How many entries the dense model has of what budgets count."""
        columns = self.embedding_dim + (self.linear == "pep")
        return dataset.feature_count * columns

    def searched_parameters(self, dataset: data.Dataset) -> int:
        """How many entries compete for a budget."""
        columns = self.dim_of_search() + (self.linear == "pep")
        return dataset.feature_count * columns

    def build_model(
        self,
        dataset: data.Dataset,
        embedding: str,
        budget: int | None = None,
        optimizer: keras.Optimizer | None = None,
    ) -> FieldModel:
        """A compiled model, its initial weights drawn from the seed.

        Args:
            dataset: Whose fields the model takes.
            embedding: `"dense"`, `"pep"`, or a kind of table that is made to
                fit a budget: `"uniform"`, the full one with fewer columns, or
                `"mixed-dimension"`.
            budget: Parameters of such a table.
            optimizer: What to train with; by default as the dense model.

        Raises:
            BudgetTooSmallError: If it is for a single column.
        """
        keras.utils.set_random_seed(self.seed)
        features, dim = dataset.feature_count, self.embedding_dim
        if budget is not None and self.linear == "pep":
            budget -= features  # which buys first-order weights
        layer: Any = "dense"
        if embedding == "pep":
            dim = self.dim_of_search()
            layer = PEPEmbedding(
                features,
                dim,
                granularity=self.shared_by(),
                field_sizes=dataset.field_sizes,
                threshold_init=self.threshold_init,
                embeddings_initializer="glorot_uniform",
                name="embedding",
            )
        elif embedding == "uniform":
            assert budget is not None
            dim = budget // features
            if dim < 1:
                raise BudgetTooSmallError(budget)
        elif embedding == "mixed-dimension":
            assert budget is not None
            layer = MixedDimensionEmbedding(
                dataset.field_sizes,
                mixed_dimensions(dataset.field_sizes, dim, budget),
                dim,
                field_lengths=dataset.field_lengths,
                name="embedding",
            )
        settings = dict(self._preset.settings)
        if self.model in ("fm", "deepfm"):
            settings["linear"] = self.linear if embedding == "pep" else "dense"
        model = self._preset.kind(
            dataset.field_sizes,
            dim,
            layer,
            field_lengths=dataset.field_lengths,
            name=self.model,
            **settings,
        )
        model.build()
        self.compile_model(model, optimizer)
        return model

    def compile_model(
        self, model: keras.Model, optimizer: keras.Optimizer | None = None
    ) -> None:
        """Compiles a model whose outputs are logits, as the dense one is."""
        model.compile(
            optimizer or self.adam(self.rate()),
            keras.losses.BinaryCrossentropy(from_logits=True),
            steps_per_execution=_STEPS_PER_EXECUTION[self.search],
        )

    def retraining_optimizer(
        self, rate: float, steps: int, kept: float
    ) -> keras.Optimizer:
        """What a small model is trained with: a learning rate that falls.

        Args:
            rate: The learning rate to begin with; by the paper's method that
                of each step.
            steps: Of the whole training.
            kept: Share of the dense model's entries that it has.
        """
        if self.search == "paper":
            return self.adam(rate)
        falling = keras.optimizers.schedules.PolynomialDecay(rate, steps, 0.0)
        return self.adam(falling, 1.0 if kept >= _LARGE else _RETRAINING_L2)

    def adam(self, rate: Any, share_of_l2: float = 1.0) -> keras.Optimizer:
        """The optimizer, at a rate and with a share of its L2."""
        return OPTIMIZERS[self.optimizer](rate, l2=share_of_l2 * self.l2)
