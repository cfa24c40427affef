"""The settings of a run, and what follows from them."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from keras_pep.lab.presets import preset

# Baselines that search for a ticket.
SEARCHED = ("magnitude", "gradual-magnitude", "paper", "bet")
# All that `--compare` has.
RIVALS = (
    *("uniform", "mixed-dimension", *SEARCHED, "hot-rows", "hashing"),
    *("compositional", "qr", "hash-embedding", "robe", "tensor-train", "dhe"),
    *("low-rank", "cce", "cel"),
)
# Settings that the config.json of a run of 0.2 and before may lack.
_LATER = (
    *("positive", "weight", "max_values", "vocabularies"),
    *("split", "validation_file", "test_file"),
    *("continued", "decay", "evict_below"),
)


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
        dataset: Name of a dataset, or path of your own: a .csv, .tsv or
            .parquet file, or a folder of such files.
        data_dir: Folder with the downloaded files of a named dataset. Without
            it MovieLens is read through TensorFlow Datasets.
        features: Fields to use. movielens: paper leaves out user and movie
            ids. avazu: full splits the hour into hour of day and weekday.
            [default: full]
        label: Own files: column of the labels, 0 or 1.
        positive: Own files: rule for labels that are positive, if labels are
            not 0 and 1, as in '>=4', '==click' or 'in yes,true'.
        weight: Own files: column of the weight of each row in losses and
            figures. [default: all weigh the same]
        fields: Own files: columns to learn from. A kind after a colon replaces
            the guessed one, as in price:number: category, text, number, log,
            list, time, hour or weekday; or hash with a number of buckets, as in
            'user:hash(1048576)'. A time may have a format, as in
            'when:time(%m/%d/%Y %H:%M)'. [default: all but the label]
        delimiter: Own files: character between columns. [default: comma; tab
            for .tsv and .txt]
        min_count: Smallest number of training rows for a value to get a row of
            its own; rarer values of a field share one. Below 1, a share of
            these rows. Not for movielens and synthetic.
        max_values: Most values of a field that get a row of their own, the most
            frequent first. Not for movielens and synthetic. [default: all]
        vocabularies: Folder of values that were counted elsewhere: for a field
            user the file user.txt, one value a line by falling count, as
            prepare --write-vocabularies writes it. Not for movielens and
            synthetic.
        split: Division of rows into training (80 %), validation and test. Own
            files: random, time:COLUMN (the last rows by time are the test) or
            column:NAME (a column that says train, validation or test).
            criteo, avazu: random or time. movielens: random, time, or user (the
            last two ratings of each user). A time may have a format, as in
            'time:when(%m/%d/%Y %H:%M)'.
        validation_file: Own files: file or folder of the validation rows. All
            of --dataset trains then. [default: with --test-file, a tenth of
            --dataset]
        test_file: Own files: file or folder of the test rows. [default: with
            --validation-file, a tenth of --dataset]
        max_bad_rows: Largest share of malformed rows. Fewer are left out and
            counted; more are an error.
        cache_dir: Folder for prepared data. [default: $KERAS_PEP_CACHE, or
            ~/.cache/keras-pep]
        model: Logistic regression, a factorization machine or a deep model.
        embedding_dim: Columns of the table before pruning. [default: chosen on
            validation, up to 64; 64 with options of a single search; lr: 1]
        granularity: Entries of the table that share a threshold. [default:
            global; paper: feature-dimension]
        search: Method of finding small models. auto: tune the dense model, try
            a few methods for each size and take the best; budget: one search,
            on a schedule that meets the size; paper: one search, as in the
            paper, where L2 raises the thresholds. [default: auto; budget if an
            option of a single search is given]
        effort: Amount of work for --search auto. quick: half the epochs and no
            searches; thorough: more methods.
        search_epochs: Epochs of the search; the most with --search paper.
            [default: 1.5 times those the dense model needs, at most 20 for fm
            and fvfm, 12 for autoint without --deep, 14 for others; paper: 40]
        search_dim: Columns of the table that is searched. A wide table
            overfits ids of users and items. [default: --embedding-dim]
        search_rate: Learning rate of --search budget. [default: up to 3 times
            --learning-rate for fm and fvfm; --learning-rate for others]
        threshold_init: First value of the threshold logits.
        linear: First-order weights of fm, fvfm, gem and deepfm. dense keeps all
            of them; pep prunes them too, within the same budget.
        deep: Add a perceptron beside the attention of autoint (AutoInt+).
        budget: Embedding parameters to keep. Repeatable.
        sparsity: Share of the embedding parameters to prune. Repeatable.
            [default with --search budget: 0.8, 0.9, 0.95; paper: 0.8]
        max_bytes: Largest size of the table as exported in int8, such as
            100kB. Repeatable.
        tolerance: Validation AUC that a smaller model may lose against the
            best dense one and still be taken. Without a size, a half, a
            quarter and so on of the dense table's bytes are tried.
        start: Weights that retraining starts from. rewind: the initial ones;
            reinit: new random ones; finetune: those the search ended with.
        retrain_epochs: Epochs of retraining, over which the learning rate falls
            to zero. With --search paper the most, at a constant rate.
            [default: as --search-epochs, but at most 16 for fm and fvfm;
            paper: --max-epochs]
        retrain_rate: First learning rate of retraining. Not with --search
            paper. [default: up to 10 times --learning-rate for fm and fvfm;
            --learning-rate for autoint without --deep; up to 3 times for
            others]
        distillation: Weight of the dense model's predictions in the labels of
            search and retraining. 0 with --no-baseline or --search paper.
        optimizer: Optimizer, with L2 added to the gradient. adam updates every
            weight; lazy-adam only the rows of a batch; rowwise-adagrad too,
            with one number of state a row and a third of the memory. auto:
            lazy-adam for large tables, else adam.
        learning_rate: Learning rate of the dense model; of every model with
            --search paper. [default: tuned; with options of a single search
            0.001, autoint without --deep 0.003; rowwise-adagrad 0.1]
        batch_size: Rows of a training batch.
        l2: L2 regularization, added to the gradient of every weight.
            [default: tuned; with options of a single search 1e-05]
        max_epochs: Most epochs of the dense model and of each small one.
        patience: Epochs without a better validation AUC before training stops.
        seed: Seed of the random split, the initial weights and the order of
            training rows.
        baseline: Train the dense model too.
        compare: Baseline to train for each size. uniform: a full table with
            fewer columns; mixed-dimension: columns by popularity; magnitude:
            the largest entries; gradual-magnitude: the same, step by step;
            paper: the paper's search; hot-rows: rows for frequent values alone;
            others: published compressors. Repeatable.
        export: Write a SavedModel of the chosen model too, as keras-pep export
            does.
        continued: Run directory of a model to continue on new rows, in a few
            epochs. Known values keep their ids, new ones get one, and the size
            stays. The directory is only read.
        decay: With --continue, weight of earlier counts of values in
            --min-count and --evict-below: 1 for as much as new ones, 0 if the
            data include the earlier rows.
        evict_below: With --continue, smallest count for a value to keep its id.
        distribute: Divide every batch among devices. mirrored: the GPUs of this
            machine; multi-worker: the processes that the environment variable
            TF_CONFIG lists.
    """

    dataset: str = "synthetic"
    data_dir: str | None = None
    features: str | None = None
    label: str | None = None
    positive: str | None = None
    weight: str | None = None
    fields: tuple[str, ...] = ()
    delimiter: str | None = None
    min_count: float = preset("min_count")
    max_values: int | None = None
    vocabularies: str | None = None
    split: str = "random"
    validation_file: str | None = None
    test_file: str | None = None
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
            each.name: tuple(values.get(each.name, ()))
            for each in fields(cls)
            if each.default == ()
        }
        return cls(**{**values, **tuples})

    @classmethod
    def of_run(cls, settings: Mapping[str, Any]) -> Self:
        """The settings in the `config.json` of a run, which has more.

        Raises:
            KeyError: If one is missing.
        """
        # Earlier runs have not had these.
        later = {name: getattr(cls, name) for name in _LATER}
        settings = {**later, **settings}
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
