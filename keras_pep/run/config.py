"""The settings of a run, and what they build."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import keras

from keras_pep import data
from keras_pep.layers import PEPEmbedding
from keras_pep.models import (
    FM,
    AutoInt,
    DeepFM,
    FieldModel,
    LogisticRegression,
)
from keras_pep.optimizers import AdamL2

MODELS: Mapping[str, type[FieldModel]] = {
    "lr": LogisticRegression,
    "fm": FM,
    "deepfm": DeepFM,
    "autoint": AutoInt,
}

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
    budget: tuple[int, ...] = ()
    sparsity: tuple[float, ...] = ()
    learning_rate: float = 1e-3
    batch_size: int = 1024
    l2: float = 1e-5
    max_epochs: int = 40
    patience: int = 2
    seed: int = 0
    baseline: bool = True

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        """The settings that `asdict` of this class, read back, describes."""
        tuples = {
            name: tuple(values.get(name, ())) for name in ("budget", "sparsity")
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

    def build_model(self, dataset: data.Dataset, embedding: str) -> FieldModel:
        """A compiled model, its initial weights drawn from the seed.

        Args:
            dataset: Whose fields the model takes.
            embedding: `"dense"` or `"pep"`.
        """
        keras.utils.set_random_seed(self.seed)
        layer: Any = embedding
        if embedding == "pep":
            layer = PEPEmbedding(
                dataset.feature_count,
                self.embedding_dim,
                granularity=self.granularity,
                field_sizes=dataset.field_sizes,
                threshold_init=self.threshold_init,
                embeddings_initializer="glorot_uniform",
                name="embedding",
            )
        model = MODELS[self.model](
            dataset.field_sizes, self.embedding_dim, layer, name=self.model
        )
        model.build()
        model.compile(
            AdamL2(self.learning_rate, l2=self.l2),
            keras.losses.BinaryCrossentropy(from_logits=True),
        )
        return model
