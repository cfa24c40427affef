"""The settings of a run, and the data and models that they build."""

from dataclasses import dataclass, replace
from typing import Any, Self

import keras

from keras_pep import data
from keras_pep.lab.baselines import (
    COMPRESSED,
    BudgetTooSmallError,
    CELEmbedding,
    HotRowsEmbedding,
    MixedDimensionEmbedding,
    mixed_dimensions,
)
from keras_pep.lab.baselines.compressed import glorot
from keras_pep.lab.baselines.hot_rows import width_of
from keras_pep.lab.presets import preset
from keras_pep.lab.settings import Settings
from keras_pep.layers import PEPEmbedding, RowEmbedding
from keras_pep.models import (
    DCN,
    FM,
    GEM,
    AutoInt,
    DeepFM,
    FieldModel,
    FvFM,
    LogisticRegression,
)
from keras_pep.optimizers import AdamL2, LazyAdam, RowwiseAdagrad

_PERCEPTRON = ("hidden_units", "dropout")
_ATTENTION = ("num_layers", "num_heads", "attention_units")
# A model, and those of its arguments that are preset.
_MODELS: dict[str, tuple[type[FieldModel], tuple[str, ...]]] = {
    "lr": (LogisticRegression, ()),
    "fm": (FM, ()),
    "fvfm": (FvFM, ()),
    "gem": (GEM, ("num_convolutions",)),
    "deepfm": (DeepFM, _PERCEPTRON),
    "dcn": (DCN, ("num_cross_layers", *_PERCEPTRON)),
    "autoint": (AutoInt, _ATTENTION),
    "autoint+": (AutoInt, _ATTENTION + _PERCEPTRON),
}
# Arguments of `data.load`.
_DATA = (
    *("data_dir", "features", "label", "positive", "weight", "fields"),
    *("delimiter", "min_count", "max_values", "vocabularies"),
    *("split", "validation_file", "test_file"),
    *("seed", "max_bad_rows", "cache_dir"),
)
_OPTIMIZERS = {
    # `auto` is one of them, as soon as the data are known.
    "auto": AdamL2,
    "adam": AdamL2,
    "lazy_adam": LazyAdam,
    "rowwise_adagrad": RowwiseAdagrad,
}


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The settings of a run, and the data and models that they ask for."""

    def load_data(self) -> data.Dataset:
        """Load the dataset."""
        earlier = None
        if self.continued is not None:
            from keras_pep.lab.run.continuing import earlier_of

            earlier = earlier_of(self)
        return data.load(
            self.dataset,
            **{name: getattr(self, name) for name in _DATA},
            earlier=earlier,
        )

    def parameters(self, dataset: data.Dataset) -> int:
        """How many entries the dense model has of what budgets count."""
        columns = self.columns() + (self.linear == "pep")
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
            embedding: `"dense"`; `"pep"`; `"prefix"`, of which a search keeps
                the first columns of each row; or a kind of table that is made
                to fit a budget: `"uniform"`, the full one with fewer columns,
                `"mixed-dimension"` or one of `COMPRESSED` or `OF_FIELDS`.
            budget: Parameters of such a table.
            optimizer: What to train with; by default as the dense model.

        Raises:
            BudgetTooSmallError: If it is for a single column.
        """
        keras.utils.set_random_seed(self.seed)
        features, dim = dataset.feature_count, self.columns()
        parameters = budget or 0
        if parameters and self.linear == "pep":
            parameters -= features  # which buys first-order weights
        searched = embedding in ("pep", "prefix")
        if searched:
            layer: Any = PEPEmbedding(
                *(features, self.dim_of_search()),
                granularity=self.shared_by(),
                structure="prefix" if embedding == "prefix" else "free",
                field_sizes=dataset.field_sizes,
                threshold_init=self.threshold_init,
                embeddings_initializer="glorot_uniform",
                name="embedding",
            )
        elif embedding == "mixed-dimension":
            layer = MixedDimensionEmbedding(
                dataset.field_sizes,
                mixed_dimensions(dataset.field_sizes, dim, parameters),
                dim,
                field_lengths=dataset.field_lengths,
                name="embedding",
            )
        elif embedding in COMPRESSED:
            scale = glorot(features, dim)
            layer = COMPRESSED[embedding](
                *(features, dim, parameters, self.seed, scale), name="embedding"
            )
        elif embedding == "cel":
            assert budget is not None
            layer = CELEmbedding(
                *(features, dim, budget, self.seed, glorot(features, dim)),
                field_sizes=dataset.field_sizes,
                name="embedding",
            )
        elif embedding == "hot-rows":
            dim = width_of(features, dim, parameters)
            layer = HotRowsEmbedding(
                *(features, dim, parameters),
                scale=glorot(features, dim),
                counts=dataset.counts(),
                field_sizes=dataset.field_sizes,
                name="embedding",
            )
        else:
            if embedding == "uniform":
                dim = parameters // features
                if dim < 1:
                    raise BudgetTooSmallError(parameters)
            layer = RowEmbedding(
                features, dim, "glorot_uniform", name="embedding"
            )
        kind, arguments = _MODELS[self.model + "+" * self.deep]
        settings = {name: preset(name) for name in arguments}
        if issubclass(kind, FM):
            settings["linear"] = self.linear if searched else "dense"
        model = kind(
            *(dataset.field_sizes, layer.output_dim, layer),
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
        """Compile a model whose outputs are logits, as the dense one is."""
        model.compile(
            optimizer or self.adam(self.rate()),
            keras.losses.BinaryCrossentropy(from_logits=True),
            steps_per_execution=preset("steps_per_execution")[self.search],
        )

    def retraining_optimizer(
        self, rate: float, steps: int, kept: float, power: float = 0.0
    ) -> keras.Optimizer:
        """Make the optimizer of a small model: its learning rate falls.

        Args:
            rate: The learning rate to begin with; by the paper's method that
                of each step.
            steps: Of the whole training.
            kept: Share of the dense model's entries that it has.
            power: Of this share, with which an L2 that was tuned falls.
        """
        if self.search == "paper":
            return self.adam(rate)
        if self.search == "auto":
            return self.falling(rate, steps, min(1.0, kept) ** power)
        large = kept >= preset("large_share")
        share = 1.0 if large else preset("retraining_l2")
        return self.falling(rate, steps, share)

    def falling(
        self, rate: float, steps: int, share_of_l2: float = 1.0
    ) -> keras.Optimizer:
        """The optimizer, at a rate that falls to zero in so many steps."""
        schedule = keras.optimizers.schedules.PolynomialDecay(rate, steps, 0.0)
        return self.adam(schedule, share_of_l2)

    def adam(self, rate: Any, share_of_l2: float = 1.0) -> keras.Optimizer:
        """The optimizer, at a rate and with a share of its L2."""
        l2 = preset("l2") if self.l2 is None else self.l2
        return _OPTIMIZERS[self.optimizer](rate, l2=share_of_l2 * l2)

    def with_optimizer(self, dataset: data.Dataset) -> Self:
        """Choose the optimizer for a dataset: the one that is faster.

        Dense updates cost time in proportion to the table, lazy ones in
        proportion to the rows that a batch looks up.
        """
        looked_up = self.batch_size * dataset.train.ids.shape[1]
        large = dataset.feature_count >= preset("lazy_rows") * looked_up
        lazy = large and self.search != "paper"
        return replace(self, optimizer="lazy_adam" if lazy else "adam")
