"""The embedding layer that learns which of its entries are worth keeping."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pep.blocks import joined, row_blocks
from keras_pep.layers import lookup, variables
from keras_pep.layers.embedding import TableMixin, positive_integer
from keras_pep.layers.initial import (
    GivenValues,
    by_blocks,
    initial_blocks,
    with_seed,
)
from keras_pep.runtime import keras_of
from keras_pep.sparse import SparseTable
from keras_pep.thresholds import (
    GRANULARITIES,
    field_of,
    logit_shape,
    prefix_threshold,
    soft_threshold,
    suffix_norms,
    thresholds,
)

_LARGEST_LOGIT = 80
_STRUCTURES = ("free", "prefix")


class PEPEmbeddingMixin(TableMixin):
    """Embedding with learnable thresholds (PEP): small entries are pruned.

    A drop-in replacement for `keras.layers.Embedding` that looks rows up in

    ```
    S(V, s) = sign(V) * relu(|V| - sigmoid(s) * exp(clock))
    ```

    where `V` is the table and `s` the threshold logits; both are trained by
    the loss. An entry smaller than its threshold is exactly zero. How many
    entries are not, in a row, is the learned embedding size of a feature.

    What makes thresholds rise in the paper is L2 regularization inside Adam,
    which pulls `s` from `threshold_init` up to zero (`AdamL2` in
    `keras_pep.optimizers`; the decoupled `weight_decay` of Keras does not move
    them). The search by budget raises `clock` instead, one scalar that is not
    trained, and 0 in the paper. While thresholds are small it does to all of
    them what adding it to `s` would, but it can prune entries of 1 and more,
    which a sigmoid cannot.

    Only the looked-up rows are read and thresholded, each once per batch.

    Args:
        input_dim: Integer. Number of features, the rows of the table.
        output_dim: Integer. Base embedding size, the columns of the table.
        embeddings_initializer: Initializer for `V`. It must give the same
            values each time it is called, since initial values are not stored
            but made again; without a seed it is given one. Tables of more
            than 2**24 entries are drawn in blocks of rows, if it is one of
            Keras' that draws each entry by itself; others draw the whole table
            again for every ticket.
        embeddings_regularizer: Regularizer for `V`. It reads the whole table
            in every step.
        embeddings_constraint: Constraint for `V`.
        mask_zero: Boolean, whether id 0 is padding to be masked out.
        weights: Initial values of `V`, such as pretrained vectors, instead of
            those of the initializer: float array `(input_dim, output_dim)`, or
            a list of one. Tickets rewind to them. They are not part of the
            configuration: a layer that was saved and loaded can be used and
            trained, but not rewound.
        granularity: Which entries share a threshold. `"global"`: all, which
            takes the least memory and time, and suits the search by budget;
            `"dimension"`: a column, `"feature"`: a row, `"feature_dimension"`:
            none, as in most of the paper's tables; `"field"`: the rows of a
            field, `"field_dimension"`: a column within a field.
        structure: What may be kept of a row. `"free"`: any of its entries;
            `"prefix"`: its first ones, by the norm of what follows, see
            `keras_pep.thresholds.prefix_threshold`. Then a row's size is all
            that has to be stored of where they are, which suits a table whose
            first columns matter most, such as a trained one rotated by the
            eigenvectors of its second moments. Without granularities that have
            thresholds for dimensions.
        field_sizes: Number of features of each field, in the order of their
            rows. Needed by the two granularities per field.
        threshold_init: Float. Initial value of `s`. Where L2 in Adam pulls
            it, it is a timer: `s` climbs by about one learning rate a step.
            The default is the paper's for MovieLens.
        combiner: `"mean"`, `"sum"` or `"sqrtn"`: the vectors of the last axis
            of ids become one, as by `keras_rs.layers.EmbedReduce`; a second
            input of the call, of the shape of the ids, weighs them. Padding,
            if there is `mask_zero`, weighs nothing. None: each stays.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input shape:
        Integer tensor of any shape `(...)`, values in `[0, input_dim)`; ragged
        or sparse as for `keras.layers.Embedding`, too. Other values are an
        error, or their vector is NaN on a GPU and in what XLA compiles.
        `keras.Input` casts ids before a layer sees them: give it
        `dtype="int64"` where ids may have 64 bits, or 2**32 + 1 is looked up
        as 1. On JAX ids have 32 bits whatever the Input says; only models of
        `keras_pep.models` guard against it there.

    Output shape:
        `(..., output_dim)`; with a combiner, without the last axis of the ids.

    Raises:
        ValueError: If an argument is not as described.

    Example:

    ```python
    layer = keras_pep.PEPEmbedding(10_000, 64)
    vectors = layer(np.array([[1, 2, 3]]))  # (1, 3, 64)
    layer.nonzero_parameters()  # nearly 640_000 before training
    ```

    Reference:
        - [Liu et al., 2021](https://arxiv.org/abs/2101.07577)
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        weights: Any = None,
        *,
        granularity: str = "global",
        structure: str = "free",
        field_sizes: Sequence[int] | None = None,
        threshold_init: float = -15.0,
        combiner: str | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.pop("input_length", None) is not None:
            warnings.warn(
                "`input_length` is ignored: remove it.",
                stacklevel=2,
            )
        super().__init__(input_dim, output_dim, mask_zero, combiner, **kwargs)
        if granularity not in GRANULARITIES:
            raise ValueError(
                f"`granularity` must be one of {', '.join(GRANULARITIES)}. "
                f"Received: granularity={granularity!r}"
            )
        by_column = granularity.endswith("dimension")
        if structure not in _STRUCTURES[: 2 - by_column]:
            raise ValueError(
                "`structure` must be 'free', or 'prefix' with a granularity "
                "that all columns share. Received: "
                f"structure={structure!r}, granularity={granularity!r}"
            )
        self.granularity, self.structure = granularity, structure
        self._per_feature = granularity.startswith("feature")
        self.field_sizes = _checked_field_sizes(
            granularity, field_sizes, input_dim
        )
        if not -math.inf < threshold_init < _LARGEST_LOGIT:
            raise ValueError(
                "`threshold_init` must be a finite number below "
                f"{_LARGEST_LOGIT}, where a sigmoid is 1. "
                f"Received: threshold_init={threshold_init}"
            )
        self.threshold_init = float(threshold_init)
        self.embeddings_initializer = _repeatable(
            keras.initializers.get(_of_keras_3(embeddings_initializer))
        )
        if weights is not None:
            if isinstance(weights, list | tuple) and len(weights) == 1:
                weights = weights[0]
            self.embeddings_initializer = GivenValues(
                self._checked_table(weights), self.embeddings_initializer
            )
        own = keras_of(self)
        self.embeddings_regularizer = own.regularizers.get(
            embeddings_regularizer
        )
        self.embeddings_constraint = own.constraints.get(embeddings_constraint)
        if weights is not None:  # as Keras does it
            self.build()

    def build(self, input_shape: Any = None) -> None:
        """Create `embeddings`, `threshold_logits` and `clock`."""
        if self.built:
            return
        # Weights stay in the variable dtype inside `call`: a threshold of
        # 3e-7, where training starts, is nothing in half precision.
        shape = self.input_dim, self.output_dim
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=shape,
            initializer=by_blocks(self.embeddings_initializer, shape),
            regularizer=self.embeddings_regularizer,
            constraint=self.embeddings_constraint,
            autocast=False,
        )
        shape = logit_shape(
            self.granularity, *shape, len(self.field_sizes or ())
        )
        start = keras.initializers.Constant(self.threshold_init)
        self.threshold_logits = self.add_weight(
            name="threshold_logits",
            shape=shape,
            initializer=by_blocks(start, shape),
            autocast=False,
        )
        # What optimizers need to know of them.
        self.threshold_logits.is_threshold = True
        self.threshold_logits.is_table = self._per_feature
        self.clock = self.add_weight(
            name="clock",
            shape=(),
            initializer="zeros",
            trainable=False,
            autocast=False,
        )
        self.built = True

    def pruned_embeddings(self) -> np.ndarray:
        """The whole table as it is looked up, `S(V, s)`.

        Returns:
            Array of shape `(input_dim, output_dim)`.
        """
        return joined(self._blocks(), self.input_dim)

    def sparse(self) -> SparseTable:
        """The pruned table, as it is looked up."""
        shape = self.input_dim, self.output_dim
        return SparseTable.from_blocks(self._blocks(), shape)

    def mask(self) -> np.ndarray:
        """Which entries are kept: boolean, `(input_dim, output_dim)`."""
        return joined((x != 0 for x in self._blocks()), self.input_dim)

    def embedding_sizes(self) -> np.ndarray:
        """Kept entries of every feature: int64, `(input_dim,)`."""
        return joined(
            (np.count_nonzero(block, axis=1) for block in self._blocks()),
            self.input_dim,
        )

    def nonzero_parameters(self) -> int:
        """Number of kept entries. Reads the whole table."""
        return sum(int(np.count_nonzero(block)) for block in self._blocks())

    def sparsity(self) -> float:
        """Pruned share of the table, from 0 to 1. Reads the whole table."""
        size = self.input_dim * self.output_dim
        return 1.0 - self.nonzero_parameters() / size

    def lifetimes(
        self, rows: Any = None, take: Callable[[Any, Any], Any] = lookup.take
    ) -> np.ndarray:
        """The clock at which every entry is pruned, `log(|V| / sigmoid(s))`.

        Of prefixes it is the norm that counts, and not `|V|`.

        Args:
            rows: Integer array of row numbers, `(rows,)`; by default all.
            take: What reads rows of `V`, such as `LazyAdam.take`.

        Returns:
            Array of shape `(rows, output_dim)`; `-inf` where `V` is 0.
        """
        if rows is None:
            blocks = self.row_blocks()
            read = (self._lifetimes(x, take) for x in blocks)
            return joined(read, self.input_dim)
        parts = row_blocks(len(rows), self.output_dim)
        read = (self._lifetimes(rows[x], take) for x in parts)
        return joined(read, len(rows))

    def _lifetimes(
        self, rows: np.ndarray, take: Callable[[Any, Any], Any]
    ) -> np.ndarray:
        rows = ops.convert_to_tensor(rows)
        logits = (
            lookup.take(self.threshold_logits, rows)
            if self._per_feature
            else self._of_fields(self.threshold_logits, rows)
        )
        # The logarithm reaches where a sigmoid is zero, from -104 on.
        values = take(self.embeddings, rows)
        prefix = self.structure == "prefix"
        size = suffix_norms(values) if prefix else ops.abs(values)
        lifetimes = ops.log(size) - ops.log_sigmoid(logits)
        return np.asarray(ops.convert_to_numpy(lifetimes))

    def row_blocks(self) -> Iterator[np.ndarray]:
        """The numbers of all rows, not too many at once."""
        if not self.built:
            self.build()
        for rows in row_blocks(self.input_dim, self.output_dim):
            yield np.arange(rows.start, rows.stop)

    def embedding_blocks(self) -> Iterator[np.ndarray]:
        """`V` itself, of one of `row_blocks` after the other.

        Yields:
            Arrays of shape `(some, output_dim)`.
        """
        if not self.built:
            self.build()
        return variables.blocks(self.embeddings)

    def initial_embeddings(self) -> np.ndarray:
        """`V` as it was when built, made again from the initializer.

        Returns:
            Array of shape `(input_dim, output_dim)`.
        """
        return joined(self.initial_blocks(), self.input_dim)

    def initial_blocks(self) -> Iterator[np.ndarray]:
        """`initial_embeddings` of one of `row_blocks` after the other.

        Yields:
            Arrays of shape `(some, output_dim)`.
        """
        return self._drawn_by(self.embeddings_initializer)

    def drawn_blocks(self) -> Iterator[np.ndarray]:
        """Other initial values: what the initializer gives by another seed.

        Yields:
            Arrays of shape `(some, output_dim)`, as `initial_blocks` does.
        """
        seed = keras.random.randint((), 0, 2**31 - 1, dtype="int32")
        return self._drawn_by(with_seed(self.embeddings_initializer, int(seed)))

    def _drawn_by(self, initializer: Any) -> Iterator[np.ndarray]:
        if isinstance(initializer, GivenValues) and initializer.values is None:
            raise ValueError(
                f"The initial values of {self.name!r} came from `weights`, "
                "which files do not hold, so its entries cannot be rewound. "
                "Make the layer with the same `weights`, then load its weights."
            )
        shape = self.input_dim, self.output_dim
        for block in initial_blocks(initializer, shape, self.variable_dtype):
            yield np.asarray(ops.convert_to_numpy(block))

    @property
    def frozen(self) -> bool:
        """Whether thresholds are off and what is pruned stays pruned."""
        return self.built and bool(ops.convert_to_numpy(self.clock) == -np.inf)

    def assign_sparse(self, sparse: SparseTable) -> None:
        """Make this the table and turn thresholds off.

        Entries that are not in it become zero, and stay so in training: see
        `soft_threshold`. An optimizer that has run before must be reset, or
        its momentum moves them. `sparse` may have been taken from here by
        `layer.sparse().with_values_of(layer.initial_blocks())`, to rewind what
        is kept, or by `sparse`.

        Args:
            sparse: As many rows and columns as the table.

        Raises:
            ValueError: If it has more or fewer.
        """
        if sparse.shape != (self.input_dim, self.output_dim):
            raise ValueError(
                "`sparse` must have the shape of the table, "
                f"{(self.input_dim, self.output_dim)}. "
                f"Received: sparse of shape {sparse.shape}"
            )
        variables.assign_blocks(self.embeddings, sparse.blocks())
        self.clock.assign(-np.inf)

    def begin_with(self, table: Any) -> None:
        """Make a table the initial values, to which tickets rewind.

        Thresholds and the optimizer's state stay as they are.

        Args:
            table: Float array `(input_dim, output_dim)`.

        Raises:
            ValueError: If it has another shape, or is no array of numbers.
        """
        self.embeddings_initializer = GivenValues(
            self._checked_table(table), self.embeddings_initializer
        )
        self.build()
        variables.assign(self.embeddings, self.embeddings_initializer.values)

    def set_weights(self, weights: Any) -> None:
        """Set all variables, or only the table if there is one array.

        In the second case thresholds and clock stay as they are.
        """
        if len(weights) != 1:
            super().set_weights(weights)
            return
        table = self._checked_table(weights[0])
        self.build()
        variables.assign(self.embeddings, table)

    def quantize(
        self, mode: str, type_check: bool = True, config: Any = None
    ) -> None:
        """Refuse: a table that is searched or trained stays in float.

        Raises:
            NotImplementedError: Always. `model.quantize` makes it a warning.
        """
        raise NotImplementedError(
            f"{self.name!r} cannot be quantized: it is a full table, to be "
            "searched. Make the small model with `keras_pep.retrain` or "
            "`keras_pep.pruned_model`, and quantize that."
        )

    def _checked_table(self, table: Any) -> np.ndarray:
        """A copy of a table.

        Raises:
            ValueError: If it is none of this layer.
        """
        wide = self.variable_dtype == "float64"
        try:
            values = np.array(table, dtype="float64" if wide else "float32")
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"The table of {self.name!r} cannot be set: the value is not "
                "an array of numbers. "
                f"Expected: shape {(self.input_dim, self.output_dim)}."
            ) from error
        if values.shape != (self.input_dim, self.output_dim):
            raise ValueError(
                f"The table of {self.name!r} cannot be set: it has another "
                f"shape. Found: {values.shape}. "
                f"Expected: {(self.input_dim, self.output_dim)}."
            )
        return values

    def save_own_variables(self, store: Any) -> None:
        """Store the variables; of a table with a mask, what is kept."""
        if not self.frozen:
            super().save_own_variables(store)
            return
        sparse = self.sparse()
        store["values"] = sparse.values
        store["columns"] = sparse.columns
        store["row_splits"] = sparse.row_splits

    def load_own_variables(self, store: Any) -> None:
        """Read what `save_own_variables` has stored.

        Or the table of a `keras.layers.Embedding`; thresholds and clock stay as
        they are then.
        """
        names = list(store.keys())
        if names == ["0"]:
            self.set_weights([store["0"]])
            return
        if "row_splits" not in names:
            super().load_own_variables(store)
            return
        values, columns, row_splits = (
            np.asarray(store[name])
            for name in ("values", "columns", "row_splits")
        )
        self.assign_sparse(
            SparseTable(values, columns, row_splits, self.output_dim)
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = keras_of(self)
        return {
            **super().get_config(),
            "granularity": self.granularity,
            "structure": self.structure,
            "field_sizes": self.field_sizes and list(self.field_sizes),
            "threshold_init": self.threshold_init,
            "embeddings_initializer": keras.initializers.serialize(
                self.embeddings_initializer
            ),
            "embeddings_regularizer": own.regularizers.serialize(
                self.embeddings_regularizer
            ),
            "embeddings_constraint": own.constraints.serialize(
                self.embeddings_constraint
            ),
        }

    def _vectors(self, rows: Any) -> Any:
        values = lookup.take(self.embeddings, rows)
        prefix = self.structure == "prefix"
        pruned = prefix_threshold if prefix else soft_threshold
        if self._per_feature:
            logits = lookup.take(self.threshold_logits, rows)
            return pruned(values, thresholds(logits, self.clock))
        # Few enough to compute all, and gathering afterwards keeps the
        # gradient dense: the rows of one field would be duplicates.
        shared = thresholds(self.threshold_logits, self.clock)
        return pruned(values, self._of_fields(shared, rows))

    def _of_fields(self, shared: Any, rows: Any) -> Any:
        """Gather what rows share with others, to broadcast against them."""
        if self.field_sizes and self.granularity.startswith("field"):
            return ops.take(shared, field_of(rows, self.field_sizes), axis=0)
        return shared

    def _blocks(self) -> Iterator[np.ndarray]:
        """The pruned table, block by block."""
        for rows in self.row_blocks():
            vectors = self._vectors(ops.convert_to_tensor(rows))
            yield np.asarray(ops.convert_to_numpy(vectors))


@keras.saving.register_keras_serializable(package="keras_pep")
class PEPEmbedding(PEPEmbeddingMixin, keras.layers.Layer):  # noqa: D101
    __doc__ = PEPEmbeddingMixin.__doc__


def _checked_field_sizes(
    granularity: str, field_sizes: Sequence[int] | None, input_dim: int
) -> tuple[int, ...] | None:
    if field_sizes is None and not granularity.startswith("field"):
        return None
    given = () if field_sizes is None else field_sizes
    sizes = tuple(positive_integer("field_sizes", size) for size in given)
    if sum(sizes) != input_dim:
        raise ValueError(
            "`field_sizes` must add up to `input_dim`, and a granularity per "
            f"field needs them. Received: field_sizes={field_sizes}, "
            f"input_dim={input_dim}, granularity={granularity!r}"
        )
    return sizes


def _of_keras_3(initializer: Any) -> Any:
    """A random initializer of `tf_keras` as its twin in Keras 3."""
    if keras_of(initializer) is keras:
        return initializer
    config = initializer.get_config()
    known = getattr(keras.initializers, type(initializer).__name__, None)
    if known is None or "seed" not in config:
        return initializer
    return known.from_config(config)


def _repeatable(initializer: Any) -> Any:
    """The initializer with its seed written down, so that it can be rewound."""
    if not isinstance(initializer, keras.initializers.Initializer):
        return initializer
    config = initializer.get_config()
    if "seed" not in config or isinstance(config["seed"], int):
        return initializer
    if config["seed"] is None:
        return with_seed(initializer, initializer.seed)
    raise ValueError(
        "`embeddings_initializer` must give the same values each time it is "
        "called: seed it with an integer, not with a `SeedGenerator`. "
        f"Received: embeddings_initializer={initializer}"
    )
