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

    The attributes are the options of `keras-pep train`, whose help this is.
    In the help a default in brackets is one that depends on other settings.

    Attributes:
        dataset: A dataset by name, or the path of your own: a .csv, .tsv or
            .parquet file, or a folder of such files.
        data_dir: Folder with the files of a dataset by name, as they are
            downloaded. Without it MovieLens comes by TensorFlow Datasets.
        features: movielens: the paper's seven fields, or user and movie ids
            too; avazu: the hour as it is, or hour of day and weekday.
            [default: full]
        label: Own files: the column of labels, 0 or 1.
        fields: Own files: the columns to learn from, if not all. A kind after
            a colon replaces the guessed one, as in price:number: category,
            text, number, log, list, time, hour or weekday; a time may have a
            format, as in 'when:time(%m/%d/%Y %H:%M)'.
        delimiter: Own files: what divides columns. [default: a comma; .tsv,
            .txt: a tab]
        min_count: Values in fewer training rows share one id of their field.
            Not of movielens and synthetic.
        split: Which rows train (80 %), validate and test: at random; own
            files: time:COLUMN, the last by time for test, or column:NAME, where
            a column says train, validation or test; movielens: time. A time
            may have a format, as in 'time:when(%m/%d/%Y %H:%M)'.
        max_bad_rows: Share of malformed rows that is left out and counted.
        cache_dir: Where prepared data are kept. [default: $KERAS_PEP_CACHE, or
            ~/.cache/keras-pep]
        model: Logistic regression, factorization machines, and deep models.
        embedding_dim: Base embedding size. [default: chosen on validation, up
            to 64; with options of a search 64; lr: 1]
        granularity: Which entries of the table share a threshold. [default:
            global; paper: feature-dimension]
        search: Tune the dense model, try a few methods for each size and take
            the best; or search once, by a budget that falls on a schedule, or
            as in the paper, where thresholds rise by L2. [default: auto; budget
            with an option that only a single search has]
        effort: How much --search auto may try: quick has half the epochs and
            no searches, thorough more methods.
        search_epochs: Length of the search; by the paper's, at most. [default:
            1.5 times the epochs in which the dense model is at its best; at
            most 20 for fm and fvfm, 12 for autoint without --deep, 14 for
            others; paper: 40]
        search_dim: Columns of the table that is searched. A wide one overfits
            the ids of users and items. [default: --embedding-dim]
        search_rate: Learning rate of the search by budget. [default: fm, fvfm:
            up to 3 times --learning-rate; others: --learning-rate]
        threshold_init: Threshold logit to start from.
        linear: fm, fvfm, deepfm: whether first-order weights are pruned too,
            within the same budget.
        deep: autoint: a perceptron beside the attention (AutoInt+).
        budget: Embedding parameters to keep. Repeatable.
        sparsity: Share of them to prune. Repeatable. [default with --search
            budget: 0.8, 0.9, 0.95; paper: 0.8]
        max_bytes: Size of the table as exported in int8, such as 100kB.
            Repeatable.
        tolerance: How much lower the validation AUC of the model to take may be
            than that of the best dense one. Where no size is given, half the
            bytes of the dense table, a quarter and so on are tried.
        start: What a small model is trained from: the first weights, others,
            or those the search has left.
        retrain_epochs: Length of a retraining, over which the learning rate
            falls to zero; by the paper's method, at most, and it stays.
            [default: as --search-epochs, but at most 16 for fm and fvfm;
            paper: --max-epochs]
        retrain_rate: Learning rate that retraining begins with, unless
            --search paper. [default: fm, fvfm: up to 10 times --learning-rate;
            autoint without --deep: --learning-rate; others: up to 3 times]
        distillation: Weight of the dense model's probabilities in the labels
            of search and retraining. None with --no-baseline or --search
            paper.
        optimizer: Adam with L2 on every weight; or one that touches the rows
            of a batch alone: Adam, which auto takes for large tables, or
            Adagrad with one number of state a row, a third of the memory.
        learning_rate: For the dense model, and by the paper's method for all.
            [default: tuned; with options of a search 0.001, autoint without
            --deep 0.003; rowwise-adagrad 0.1]
        batch_size: Rows of a training batch.
        l2: L2 regularization, added to the gradient of every weight.
            [default: tuned; with options of a search 1e-05]
        max_epochs: Longest training of the dense and of each small model.
        patience: Stop after so many epochs without a better validation AUC.
        seed: Of the random split, the initial values and the order of rows.
        baseline: Whether to train the dense model too.
        compare: Train a baseline of each budget too: a full table with fewer
            columns, columns by popularity, the largest entries, the paper's
            search; all of them as long, and on the same labels. Repeatable.
        export: Whether to write a SavedModel of the budget with the best
            validation AUC, as keras-pep export does.
        continued: Go on from the model of this run, on new rows, in a few
            epochs. Known values keep their ids, new ones get one, and the size
            stays. The run itself is only read.
        decay: With --continue, how much earlier counts of values weigh in
            --min-count and --evict-below: 1 for as much as new ones, 0 where
            the data have the earlier rows, too.
        evict_below: With --continue, a value with a lower count loses its id.
        distribute: Divide every batch among the GPUs of this machine, or among
            workers: as many processes, here or elsewhere, that the environment
            variable TF_CONFIG tells of one another, as TensorFlow has it.
    """

    dataset: str = "synthetic"
    data_dir: str | None = None
    features: str | None = None
    label: str | None = None
    fields: tuple[str, ...] = ()
    delimiter: str | None = None
    min_count: int = preset("min_count")
    split: str = "random"
    max_bad_rows: float = preset("max_bad_rows")
    cache_dir: str | None = None
    model: str = "fm"
    embedding_dim: int | None = None
    granularity: str | None = None
    search: str = "auto"
    effort: str = "normal"
    search_epochs: int | None = None
    search_dim: int | None = None
    search_rate: float | None = None
    threshold_init: float = preset("threshold_init")
    linear: str = "dense"
    deep: bool = False
    budget: tuple[int, ...] = ()
    sparsity: tuple[float, ...] = ()
    max_bytes: tuple[str, ...] = ()
    tolerance: float = preset("tolerance")
    start: str = "rewind"
    retrain_epochs: int | None = None
    retrain_rate: float | None = None
    distillation: float = preset("distillation")
    optimizer: str = "auto"
    learning_rate: float | None = None
    batch_size: int = preset("batch_size")
    l2: float | None = None
    max_epochs: int = preset("max_epochs")
    patience: int = preset("patience")
    seed: int = 0
    baseline: bool = True
    compare: tuple[str, ...] = ()
    export: bool = False
    continued: str | None = None
    decay: float = preset("decay")
    evict_below: float = preset("evict_below")
    distribute: str = "none"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The settings that `asdict` of this class, read back, describes."""
        tuples = {
            name: tuple(values.get(name, ()))
            for name in (
                *("fields", "budget", "sparsity", "max_bytes", "compare"),
            )
        }
        return cls(**{**values, **tuples})

    @classmethod
    def of_run(cls, settings: Mapping[str, Any]) -> Self:
        """The settings in the `config.json` of a run, which has more.

        Raises:
            KeyError: If one is missing.
        """
        # As earlier runs have them.
        later = ("split", "continued", "decay", "evict_below")
        settings = {**{name: getattr(cls, name) for name in later}, **settings}
        return cls.from_dict(
            {each.name: settings[each.name] for each in fields(cls)}
        )

    def to_dict(self) -> dict[str, Any]:
        """The settings by name, as they were given."""
        return asdict(self)

    def derived(self) -> dict[str, Any]:
        """Compute the settings that follow where nothing was given."""
        if self.search == "auto":  # they follow from the data
            return {}
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
        return preset(name, self.optimizer, self.model + "+" * self.deep)

    def dim_of_search(self) -> int:
        """How many columns the searched table has."""
        return self.search_dim or self.columns()

    def columns(self) -> int:
        """How many columns the dense table has; while it is tuned, at most."""
        return int(self.embedding_dim or preset("embedding_dim", self.model))
