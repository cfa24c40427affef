"""The embedding layer that stores only what was kept."""

from collections.abc import MutableMapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Self

import keras
import numpy as np
from keras import ops

from keras_pep.layers import lookup, variables
from keras_pep.layers.embedding import TableMixin
from keras_pep.layers.popcount import popcount
from keras_pep.layers.storage import (
    PREFIX,
    STORAGES,
    Layout,
    bits_of_rows_before,
)
from keras_pep.runtime import keras_of
from keras_pep.sparse import SparseTable

# Of each byte, which bits are set, and how many.
_BITS = (np.arange(256)[:, None] >> np.arange(8) & 1).astype(bool)
_COUNTS = _BITS.sum(axis=1, dtype=np.int32)
_BEFORE = {number: bits_of_rows_before(number) for number in (1, 2)}

if TYPE_CHECKING:
    from keras_pep.pruning.ticket import Ticket


class PrunedEmbeddingMixin(TableMixin):
    """Embedding whose table holds its kept entries and nothing else.

    Looks up the same vectors as a `keras.layers.Embedding` of the table with
    zeros in place of the pruned. `values` are trained like any weight; what was
    pruned is not there to be trained, and a row of which nothing was kept takes
    a byte or two, a quarter of one where many are such. A frozen layer,
    `trainable=False`, looks up faster on TensorFlow.

    Make one with `from_dense` or `from_ticket`, which choose how it is stored;
    the constructor alone gives a layer of the right size, to be filled by
    loading weights.

    Args:
        input_dim: Integer. Number of features, the rows of the table.
        output_dim: Integer. Base embedding size, the columns of the table.
        num_values: Integer. Number of kept entries.
        num_rows: Integer. Number of rows that have any.
        storage: `"csr"`: the column of each value, in the narrowest integers,
            and where each row starts; `"bitmask"`: a bit for each column of a
            row instead; `"dense"`: values for all of them, which is trained
            only where all are kept; `"prefix"`, which is not trained: rows keep
            their first columns, and rows in order of their sizes take nothing
            besides.
        quantize: None: values are float32. `"float16"` or `"int8"`, which is
            for serving: they are not trained.
        offset_bytes: Of `"csr"`: bytes of a row's place among its neighbours.
        row_scales: Of `"int8"`: whether each row has a scale of its own.
        num_runs: Of `"prefix"`: runs of rows of one size.
        embeddings_regularizer: Regularizer for the kept entries.
        mask_zero: Boolean, whether id 0 is padding to be masked out.
        combiner: `"mean"`, `"sum"` or `"sqrtn"`: the vectors of the last axis
            of ids become one, as by `keras_rs.layers.EmbedReduce`; a second
            input of the call, of the shape of the ids, weighs them. Padding,
            if there is `mask_zero`, weighs nothing. None: each stays.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input shape:
        Integer tensor of any shape `(...)`, values in `[0, input_dim)`.

    Output shape:
        `(..., output_dim)`.

    Example:

    ```python
    table = np.array([[0.0, 0.5], [0.0, 0.0], [0.2, 0.1]])
    layer = keras_pep.PrunedEmbedding.from_dense(table)
    layer(np.array([2, 0]))  # [[0.2, 0.1], [0.0, 0.5]]
    ```
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        num_values: int,
        num_rows: int,
        storage: str = "csr",
        quantize: str | None = None,
        embeddings_regularizer: Any = None,
        mask_zero: bool = False,
        offset_bytes: int = 4,
        row_scales: bool = False,
        combiner: str | None = None,
        num_runs: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(input_dim, output_dim, mask_zero, combiner, **kwargs)
        self.layout = Layout(
            *(self.input_dim, self.output_dim, num_values, num_rows),
            storage=storage,
            quantize=quantize,
            offset_bytes=offset_bytes,
            row_scales=row_scales,
            num_runs=num_runs,
        )
        self.embeddings_regularizer = keras_of(self).regularizers.get(
            embeddings_regularizer
        )
        # TensorFlow cannot compile shapes that depend on values for XLA.
        self.supports_jit = keras.backend.backend() != "tensorflow"
        if not self._learns:
            self.trainable = False

    @classmethod
    def from_dense(cls, table: Any, mask: Any = None, **kwargs: Any) -> Self:
        """The layer that looks up `table * mask`.

        Args:
            table: Float array of shape `(input_dim, output_dim)`.
            mask: Boolean array of the same shape, what to keep; by default
                all that is not zero.
            **kwargs: See `from_sparse`.

        Raises:
            ValueError: If shapes do not fit.
        """
        table = SparseTable.from_dense(table, mask)
        return cls.from_sparse(table, **kwargs)

    @classmethod
    def from_ticket(
        cls, ticket: "Ticket", table: str | None = None, **kwargs: Any
    ) -> Self:
        """The layer that a ticket describes, at its initial values.

        Args:
            ticket: What a search has found.
            table: Name of the layer that was searched; needed only if the
                ticket has several tables.
            **kwargs: See `from_sparse`.

        Raises:
            ValueError: If the ticket has no such table.
        """
        names = list(ticket.tables)
        if table is None and len(names) == 1:
            table = names[0]
        if table is None or table not in ticket.tables:
            raise ValueError(
                f"`table` must name one of the ticket's tables, {names}. "
                f"Received: table={table!r}"
            )
        return cls.from_sparse(ticket.tables[table], **kwargs)

    @classmethod
    def from_sparse(
        cls,
        table: SparseTable,
        *,
        storage: str | None = None,
        quantize: str | None = None,
        trainable: bool = True,
        **kwargs: Any,
    ) -> Self:
        """The layer that stores the given table.

        Args:
            table: What is kept.
            storage: By default that of the fewest bytes: among those that can
                be trained, unless the layer is not to be.
            quantize: See the class.
            trainable: Whether `values` are to be trained.
            **kwargs: Arguments of the layer, such as `name`.
        """
        layout = cls.layout_of(table, storage, quantize, trainable=trainable)
        layer = cls(**asdict(layout), trainable=trainable, **kwargs)
        layer.build()
        layer.assign_arrays(layout.pack(table))
        return layer

    @staticmethod
    def layout_of(
        table: SparseTable,
        storage: str | None = None,
        quantize: str | None = None,
        *,
        trainable: bool = True,
    ) -> Layout:
        """How `from_sparse` stores a table."""
        storages: Sequence[str] = (*STORAGES, PREFIX)
        if storage is not None:
            storages = (storage,)
        elif trainable and quantize is None:
            storages = STORAGES
        layout = Layout.smallest(table, storages, quantize)
        if storage or quantize or layout.exact or not trainable:
            return layout
        return Layout.smallest(table, ("csr", "bitmask"))

    @property
    def _learns(self) -> bool:
        """Whether the values could be trained."""
        layout = self.layout
        fixed = layout.quantize is not None or layout.storage == PREFIX
        return layout.exact and not fixed

    @property
    def num_values(self) -> int:
        """Number of kept entries."""
        return self.layout.num_values

    def nonzero_parameters(self) -> int:
        """Count the kept entries, as `PEPEmbedding` does."""
        return self.num_values

    def sparsity(self) -> float:
        """Compute the share of entries that are pruned."""
        return 1 - self.num_values / (self.input_dim * self.output_dim)

    def embedding_sizes(self) -> np.ndarray:
        """Count the kept entries of every feature: int64, `(input_dim,)`."""
        return np.diff(self.sparse().row_splits).astype(np.int64)

    def build(self, input_shape: Any = None) -> None:
        """Creates the arrays of the layout."""
        if self.built:
            return
        self.quantized_build(input_shape, self.layout.quantize)
        self.built = True

    def quantized_build(
        self, input_shape: Any, mode: str | None, config: Any = None
    ) -> None:
        """Create the arrays of the layout, quantized or not."""
        for name, (shape, dtype) in self.layout.arrays.items():
            trained = name == "values"
            weight = self.add_weight(
                name=name,
                shape=shape,
                dtype=variables.made_as(dtype) if dtype != "float32" else None,
                initializer="zeros",
                regularizer=self.embeddings_regularizer if trained else None,
                # Of nothing there is no gradient.
                trainable=trained and self._learns and self.num_values > 0,
                autocast=False,
            )
            weight.is_table = trained  # for optimizers: of one column
            setattr(self, name, weight)

    @property
    def quantization_mode(self) -> str | None:
        """The type of quantized values, or None."""
        return self.layout.quantize

    def quantized_call(self, *args: Any, **kwargs: Any) -> Any:
        """Look ids up in the table, as when it is not quantized."""
        return self.call(*args, **kwargs)

    def quantize(
        self, mode: str, type_check: bool = True, config: Any = None
    ) -> None:
        """Round the values to int8; they are not trained any more.

        `model.quantize("int8")` calls it.

        Args:
            mode: `"int8"`.
            type_check: As for Keras' layers; without effect.
            config: As for Keras' layers; without effect.

        Raises:
            NotImplementedError: If `mode` is another.
            ValueError: If the layer is quantized already.
        """
        if mode != "int8":
            raise NotImplementedError(
                f"{self.name!r} stays as it is: a pruned table is quantized to "
                "'int8', or stored as 'float16' by `from_sparse`. "
                f"Received: mode={mode!r}"
            )
        if self.layout.quantize is not None:
            raise ValueError(
                f"{self.name!r} is quantized already, to {self.layout.quantize}"
            )
        table = self.sparse()
        for name in self.layout.arrays:
            delattr(self, name)
        self.layout = self.layout_of(table, quantize=mode)
        self.trainable = False
        self.quantized_build(None, mode, config)
        self.assign_arrays(self.layout.pack(table))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            **asdict(self.layout),
            "embeddings_regularizer": keras_of(self).regularizers.serialize(
                self.embeddings_regularizer
            ),
        }

    def assign_sparse(self, table: SparseTable) -> None:
        """Stores another table that takes as much.

        Raises:
            ValueError: If it has more or fewer rows, columns, kept entries or
                rows that have any.
        """
        own = self.layout
        found = Layout.smallest(table, (own.storage,), own.quantize)
        found = replace(found, row_scales=own.row_scales)
        if found.offset_bytes < own.offset_bytes:
            found = replace(found, offset_bytes=own.offset_bytes)
        if found != own:
            raise ValueError(
                "The table must have as many rows, columns, kept entries and "
                f"rows that have any as the layer: {own}. Received: {found}"
            )
        self.assign_arrays(own.pack(table))

    def assign_arrays(self, arrays: MutableMapping[str, np.ndarray]) -> None:
        """Stores what `layout.pack` gives for a table.

        Args:
            arrays: By name. Each is taken out when it is stored, which saves
                memory.
        """
        for name in self.layout.arrays:
            variables.assign(getattr(self, name), arrays.pop(name))

    def sparse(self) -> SparseTable:
        """The stored table."""
        return self.layout.unpack(
            {
                name: np.asarray(
                    ops.convert_to_numpy(getattr(self, name)),
                    None if name == "values" else dtype,
                )
                for name, (_, dtype) in self.layout.arrays.items()
            }
        )

    @property
    def _merge(self) -> bool:
        return self.trainable  # for the sake of its gradient alone

    @property
    def _kernels_check(self) -> bool:
        return False  # a row that is not stored is read nowhere

    def _vectors(self, rows: Any) -> Any:
        layout, count = self.layout, ops.shape(rows)[0]
        if layout.num_values == 0:
            return ops.zeros((count, self.output_dim), self.variable_dtype)
        if layout.storage == "dense":
            return self._of_whole_rows(rows)
        if layout.storage == PREFIX:
            return self._of_prefixes(rows)
        stored, end = self._stored(rows)
        octets = None
        if layout.storage == "csr":
            start, end = self._start(stored), self._start(end)
        else:
            kept = ops.cast(end - stored, "int32")[:, None]
            octets, start = self._octets_and_start(self._there(stored))
            octets = octets * kept if layout.indexed else octets
            counts = ops.take(ops.convert_to_tensor(_COUNTS), octets, axis=0)
            end = start + ops.sum(counts, axis=1)
        on_tensorflow = keras.backend.backend() == "tensorflow"
        if on_tensorflow and not self.trainable:
            return self._by_bincount(start, end, octets, stored)
        return self._by_scatter(start, end - start, octets, stored, count)

    def _start(self, stored: Any) -> Any:
        """Where the entries of a stored row start, or the last one's end."""
        offsets = ops.cast(lookup.take(self.offsets, stored), "int32")
        return self._group_start(stored) + offsets

    def _group_start(self, stored: Any) -> Any:
        return lookup.take(self.starts, ops.right_shift(stored, 5))

    def _there(self, stored: Any) -> Any:
        """Numbers of stored rows, for rows that are not the last's at most."""
        if not self.layout.indexed:
            return stored
        return ops.minimum(stored, self.layout.num_rows - 1)

    def _scaled(self, vectors: Any, stored: Any) -> Any:
        """Vectors times the units of their rows, if these have some."""
        if not self.layout.row_scales:
            return vectors
        stored = self._there(stored)
        scales = ops.cast(lookup.take(self.scales, stored), vectors.dtype)
        return vectors * scales[:, None]

    def _stored(self, rows: Any) -> tuple[Any, Any]:
        """Which stored row each is, and which comes after it.

        They are the same for a row that is not stored.
        """
        if not self.layout.indexed:
            return rows, rows + 1
        rows = ops.cast(rows, "int32")
        word, bit = ops.right_shift(rows, 5), ops.bitwise_and(rows, 31)
        # The bits of the word up to that of the row, which becomes the sign.
        up_to = ops.left_shift(lookup.take(self.present, word), 31 - bit)
        end = lookup.take(self.rank, word) + popcount(up_to)
        return end - ops.cast(up_to < 0, "int32"), end

    def _of_prefixes(self, rows: Any) -> Any:
        rows, first = ops.cast(rows, "int32"), ops.cast(self.run_rows, "int32")
        on_tensorflow = keras.backend.backend() == "tensorflow"
        if on_tensorflow:
            import tensorflow as tf

            # Fewer operations than `ops.searchsorted` has.
            run = tf.raw_ops.UpperBound(
                sorted_inputs=first[None], values=rows[None]
            )[0]
        else:
            run = ops.searchsorted(first, rows, side="right")
        size = ops.cast(lookup.take(self.run_sizes, run), "int32")
        start = ops.cast(lookup.take(self.run_starts, run), "int32")
        start = start + rows * size
        bits = 8 * np.dtype(self.layout.arrays["run_starts"][1]).itemsize
        if bits < 32:  # the others have no meaning
            start = ops.bitwise_and(start, 2**bits - 1)
        if on_tensorflow:
            splits, position = tf.raw_ops.RaggedRange(
                starts=start, limits=start + size, deltas=1, Tsplits=tf.int64
            )
            vectors = tf.raw_ops.RaggedTensorToTensor(
                shape=np.array([-1, self.output_dim]),
                values=self._raw(position),
                default_value=tf.zeros((), self.variable_dtype),
                row_partition_tensors=[splits],
                row_partition_types=["ROW_SPLITS"],
            )
        else:
            column = ops.arange(self.output_dim, dtype="int32")
            kept = column < size[:, None]
            position = ops.where(kept, start[:, None] + column, 0)
            vectors = ops.where(kept, self._raw(position), 0)
        if self.layout.quantize == "int8":
            vectors = vectors * ops.cast(self.scales, vectors.dtype)
        return vectors

    def _of_whole_rows(self, rows: Any) -> Any:
        stored, end = self._stored(rows)
        if not self.layout.indexed:
            return self._scaled(self._values(stored), stored)
        kept = end > stored
        learns = self.trainable and self._learns
        if learns and keras.backend.backend() != "jax":
            # What is not looked up has no gradient, not even of zero.
            (number,) = ops.nonzero(kept)
            return ops.scatter(
                number[:, None],
                self._values(ops.take(stored, number)),
                (ops.shape(rows)[0], self.output_dim),
            )
        stored = ops.where(kept, stored, 0)
        vectors = self._scaled(self._values(stored), stored)
        return ops.where(kept[:, None], vectors, 0)

    def _values(self, position: Any) -> Any:
        """Some values, times the unit of all of them, if they have one."""
        values, layout = self._raw(position), self.layout
        if layout.quantize == "int8" and not layout.row_scales:
            values = values * ops.cast(self.scales, values.dtype)
        return values

    def _raw(self, position: Any) -> Any:
        values = lookup.take(self.values, position)
        return ops.cast(values, self.variable_dtype)

    def _octets_and_start(self, stored: Any) -> tuple[Any, Any]:
        """Bits of stored rows, `(rows, octets)`, and where entries start."""
        stored = ops.cast(stored, "int32")
        if not self.layout.narrow:
            octets = ops.cast(lookup.take(self.bits, stored), "int32")
            return octets, self._start(stored)
        number = self.layout.octets
        place = stored * number  # a word has several rows
        word = lookup.take(self.bits, ops.right_shift(place, 2))
        shift = 8 * (ops.bitwise_and(place, 3)[:, None] + np.arange(number))
        octets = ops.bitwise_and(
            ops.right_shift(word[:, None], ops.cast(shift, "int32")), 255
        )
        eight, row = ops.right_shift(stored, 3), ops.bitwise_and(stored, 7)
        place = eight[:, None] * (2 * number) + np.arange(2 * number)
        words = lookup.take(self.bits, ops.cast(place, "int32"))
        before = ops.take(ops.convert_to_tensor(_BEFORE[number]), row, axis=0)
        kept = ops.sum(popcount(ops.bitwise_and(words, before)), axis=1)
        offsets = ops.cast(lookup.take(self.offsets, eight), "int32")
        return octets, self._group_start(stored) + offsets + kept

    def _by_bincount(
        self, start: Any, end: Any, octets: Any, stored: Any
    ) -> Any:
        """The vectors, by the fewest operations that TensorFlow has for it.

        Without a gradient.
        """
        import tensorflow as tf

        splits, position = tf.raw_ops.RaggedRange(
            starts=start, limits=end, deltas=1, Tsplits=tf.int64
        )
        vectors = tf.raw_ops.RaggedBincount(
            splits=splits,
            values=self._columns(position, octets),
            size=self.output_dim,
            # Or a tape asks for its gradient.
            weights=tf.stop_gradient(self._values(position)),
        )
        vectors = tf.ensure_shape(vectors, (None, self.output_dim))
        return self._scaled(vectors, stored)

    def _by_scatter(
        self, start: Any, size: Any, octets: Any, stored: Any, count: Any
    ) -> Any:
        number = ops.arange(count, dtype="int32")
        if keras.backend.backend() == "jax":
            # Shapes have to be known: every row has as many places as there
            # are columns, and some are beyond its end.
            number = ops.repeat(number, self.output_dim)
            place = ops.tile(
                ops.arange(self.output_dim, dtype="int32"), (count,)
            )
            kept = place < ops.take(size, number)
            position = ops.where(kept, ops.take(start, number) + place, 0)
            columns = self._columns(position, octets)
        else:
            ends = ops.cumsum(size)
            number = ops.repeat(number, size)
            place = ops.arange(ops.shape(number)[0], dtype="int32")
            # Entry k of all is entry k - (ends - size) of its row.
            position = place + ops.take(start - ends + size, number)
            columns, kept = self._columns(position, octets), None
        values = self._values(position)
        if kept is not None:  # the others add zero to the first column
            values, columns = (ops.where(kept, x, 0) for x in (values, columns))
        places = number * self.output_dim + columns
        vectors = ops.scatter(
            places[:, None], values, (count * self.output_dim,)
        )
        vectors = ops.reshape(vectors, (-1, self.output_dim))
        return self._scaled(vectors, stored)

    def _columns(self, position: Any, octets: Any) -> Any:
        """The column of each of some values, int32.

        Args:
            position: Of the values.
            octets: None, or the bits of the rows that they are of, in order.
        """
        if octets is None:
            return ops.cast(lookup.take(self.columns, position), "int32")
        mask = ops.take(ops.convert_to_tensor(_BITS), octets, axis=0)
        mask = ops.reshape(mask, (-1, 8 * self.layout.octets))
        mask = mask[:, : self.output_dim]
        if keras.backend.backend() == "jax":
            # The columns that are kept first, in order, then the others.
            return ops.reshape(ops.argsort(~mask, axis=1), (-1,))
        return ops.cast(ops.nonzero(mask)[1], "int32")


@keras.saving.register_keras_serializable(package="keras_pep")
class PrunedEmbedding(PrunedEmbeddingMixin, keras.layers.Layer):  # noqa: D101
    __doc__ = PrunedEmbeddingMixin.__doc__
