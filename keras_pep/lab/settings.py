"""The settings of a run, and what follows from them."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from keras_pep.lab.presets import preset


@dataclass(frozen=True)
class Schedule:
    """Epochs and first learning rates of search and retraining."""

    search_epochs: int
    retrain_epochs: int
    search_rate: float
    retrain_rate: float


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides what a run computes.

    The fields are the options of `keras-pep train`, and explained there.
    """

    dataset: str = "synthetic"
    data_dir: str | None = None
    features: str | None = None
    label: str | None = None
    fields: tuple[str, ...] = ()
    delimiter: str | None = None
    min_count: int = preset("min_count")
    max_bad_rows: float = preset("max_bad_rows")
    cache_dir: str | None = None
    model: str = "fm"
    embedding_dim: int = preset("embedding_dim")
    granularity: str | None = None
    search: str = "budget"
    search_epochs: int | None = None
    search_dim: int | None = None
    search_rate: float | None = None
    threshold_init: float = preset("threshold_init")
    linear: str = "dense"
    deep: bool = False
    budget: tuple[int, ...] = ()
    sparsity: tuple[float, ...] = ()
    retrain: str = "rewind"
    retrain_epochs: int | None = None
    retrain_rate: float | None = None
    distillation: float = preset("distillation")
    optimizer: str = "adam"
    learning_rate: float | None = None
    batch_size: int = preset("batch_size")
    l2: float = preset("l2")
    max_epochs: int = preset("max_epochs")
    patience: int = preset("patience")
    seed: int = 0
    baseline: bool = True
    compare: tuple[str, ...] = ()
    export: bool = False
    distribute: str = "none"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The settings that `asdict` of this class, read back, describes."""
        tuples = {
            name: tuple(values.get(name, ()))
            for name in ("fields", "budget", "sparsity", "compare")
        }
        return cls(**{**values, **tuples})

    @classmethod
    def of_run(cls, settings: Mapping[str, Any]) -> Self:
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

    def budgets(self, parameters: int) -> list[int]:
        """The budgets asked for, falling, for a table of that many entries."""
        sparsities = self.sparsity
        if not self.budget and not sparsities:
            sparsities = preset("sparsity")[self.search]
        shares = {round((1 - sparsity) * parameters) for sparsity in sparsities}
        return sorted({*self.budget, *shares}, reverse=True)

    def schedule(self, best_epoch: int | None = None) -> Schedule:
        """How long and how fast search and retraining go.

        Where a full table is at its best after a few epochs, and overfits
        from then on, small ones do not train much longer, nor faster by
        more than the number of these epochs.

        Args:
            best_epoch: After how many epochs the dense model was at its best,
                if it has been trained.
        """
        rate = self.rate()
        if self.search == "paper":
            longest = self.max_epochs
            return Schedule(
                self.search_epochs or preset("paper.search_epochs"),
                *(self.retrain_epochs or longest, rate, rate),
            )

        def within(epochs: int) -> int:
            longest = preset("epochs_over_dense") * (best_epoch or math.inf)
            return epochs if longest > epochs else math.ceil(longest)

        def at_most(multiple: float) -> float:
            return rate * min(multiple, best_epoch or multiple)

        return Schedule(
            self.search_epochs or within(self._preset("search_epochs")),
            self.retrain_epochs
            or min(within(self._preset("retrain_epochs")), self.max_epochs),
            self.search_rate or at_most(self._preset("search_rate_factor")),
            self.retrain_rate or at_most(self._preset("retrain_rate_factor")),
        )

    def shared_by(self) -> str:
        """The granularity: which entries share a threshold."""
        return self.granularity or preset("granularity")[self.search]

    def rate(self) -> float:
        """The learning rate of the dense model."""
        if self.learning_rate is not None:
            return self.learning_rate
        return float(self._preset("learning_rate"))

    def share_of_dense(self) -> float:
        """The weight of the dense model's probabilities in the labels."""
        as_in_paper = self.search == "paper" or not self.baseline
        return 0.0 if as_in_paper else self.distillation

    def _preset(self, name: str) -> Any:
        """Look up what the model is trained with by default."""
        return preset(name, self.model + "+" * self.deep)

    def dim_of_search(self) -> int:
        """How many columns the searched table has."""
        return self.search_dim or self.embedding_dim
