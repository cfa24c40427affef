"""The settings of a run, and what they build."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import keras

from keras_pep import data
from keras_pep.layers import (
    MixedDimensionEmbedding,
    PEPEmbedding,
    mixed_dimensions,
)
from keras_pep.models import (
    FM,
    AutoInt,
    DeepFM,
    FieldModel,
    LogisticRegression,
)
from keras_pep.optimizers import AdamL2, LazyAdam

MODELS: Mapping[str, type[FieldModel]] = {
    "lr": LogisticRegression,
    "fm": FM,
    "deepfm": DeepFM,
    "autoint": AutoInt,
}

# Chosen on validation of MovieLens-1M, see the README.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "lr": {},
    "fm": {},
    "deepfm": {"hidden_units": (100, 100), "dropout": 0.2},
    "autoint": {"num_layers": 3, "num_heads": 2, "attention_units": 64},
}
LEARNING_RATES = {"lr": 1e-3, "fm": 1e-3, "deepfm": 1e-3, "autoint": 3e-3}
# Beside the attention of AutoInt; then its learning rate is `DEEP_RATE`.
DEEP_PART: Mapping[str, Any] = {"hidden_units": (100, 100), "dropout": 0.2}

DEEP_RATE = 1e-3

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


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides what a run computes.

    The fields are the options of `keras-pep train`, and explained there.
    """

    dataset: str = "synthetic"
    data_dir: str | None = None
    features: str = "full"
    max_bad_rows: float = 0.001
    model: str = "fm"
    embedding_dim: int = 64
    granularity: str = "feature_dimension"
    search: str = "budget"
    search_epochs: int | None = None
    threshold_init: float = -15.0
    linear: str = "dense"
    deep: bool = False
    budget: tuple[int, ...] = ()
    sparsity: tuple[float, ...] = ()
    retrain: str = "rewind"
    optimizer: str = "adam"
    learning_rate: float | None = None
    batch_size: int = 1024
    l2: float = 1e-5
    max_epochs: int = 40
    patience: int = 2
    seed: int = 0
    baseline: bool = True
    compare: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        """The settings that `asdict` of this class, read back, describes."""
        tuples = {
            name: tuple(values.get(name, ()))
            for name in ("budget", "sparsity", "compare")
        }
        return cls(**{**values, **tuples})

    def to_dict(self) -> dict[str, Any]:
        """The settings by name."""
        return asdict(self)

    def load_data(self) -> data.Dataset:
        """Loads the dataset."""
        return data.load(
            self.dataset,
            self.data_dir,
            features=self.features,
            seed=self.seed,
            max_bad_rows=self.max_bad_rows,
        )

    def budgets(self, parameters: int) -> list[int]:
        """The budgets asked for, falling, for a table of that many entries."""
        sparsities = self.sparsity
        if not self.budget and not sparsities:
            sparsities = DEFAULT_SPARSITIES[self.search]
        shares = {round((1 - sparsity) * parameters) for sparsity in sparsities}
        return sorted({*self.budget, *shares}, reverse=True)

    def epochs_of_search(self) -> int:
        """Length of the search; by the paper's method, at most."""
        if self.search_epochs is not None:
            return self.search_epochs
        return {"budget": 20, "paper": 40}[self.search]

    def rate(self) -> float:
        """The learning rate: what was asked for, or what the model does with.

        Among those tried, see `PRESETS`.
        """
        if self.learning_rate is not None:
            return self.learning_rate
        return DEEP_RATE if self.deep else LEARNING_RATES[self.model]

    def searched_parameters(self, dataset: data.Dataset) -> int:
        """How many entries compete for a budget."""
        columns = self.embedding_dim + (self.linear == "pep")
        return dataset.feature_count * columns

    def build_model(
        self, dataset: data.Dataset, embedding: str, budget: int | None = None
    ) -> FieldModel:
        """A compiled model, its initial weights drawn from the seed.

        Args:
            dataset: Whose fields the model takes.
            embedding: `"dense"`, `"pep"`, or a kind of table that is made to
                fit a budget: `"uniform"`, the full one with fewer columns, or
                `"mixed-dimension"`.
            budget: Parameters of such a table.

        Raises:
            ValueError: If the budget is too small for a single column.
        """
        keras.utils.set_random_seed(self.seed)
        features, dim = dataset.feature_count, self.embedding_dim
        if budget is not None and self.linear == "pep":
            budget -= features  # which buys first-order weights
        layer: Any = "dense"
        if embedding == "pep":
            layer = PEPEmbedding(
                features,
                dim,
                granularity=self.granularity,
                field_sizes=dataset.field_sizes,
                threshold_init=self.threshold_init,
                embeddings_initializer="glorot_uniform",
                name="embedding",
            )
        elif embedding == "uniform":
            assert budget is not None
            dim = budget // features
            if dim < 1:
                raise ValueError(
                    f"A table of one column has more than {budget:,} "
                    "parameters."
                )
        elif embedding == "mixed-dimension":
            assert budget is not None
            layer = MixedDimensionEmbedding(
                dataset.field_sizes,
                mixed_dimensions(dataset.field_sizes, dim, budget),
                dim,
                name="embedding",
            )
        settings = dict(PRESETS[self.model])
        if self.model in ("fm", "deepfm"):
            settings["linear"] = self.linear if embedding == "pep" else "dense"
        if self.deep:
            settings.update(DEEP_PART)
        model = MODELS[self.model](
            dataset.field_sizes, dim, layer, name=self.model, **settings
        )
        model.build()
        self.compile_model(model)
        return model

    def compile_model(self, model: keras.Model) -> None:
        """Compiles a model whose outputs are logits."""
        model.compile(
            OPTIMIZERS[self.optimizer](self.rate(), l2=self.l2),
            keras.losses.BinaryCrossentropy(from_logits=True),
            steps_per_execution=_STEPS_PER_EXECUTION[self.search],
        )
