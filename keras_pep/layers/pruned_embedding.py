"""The embedding layer that stores only what was kept."""

from typing import TYPE_CHECKING, Any, Self

import keras
import numpy as np
from keras import ops

from keras_pep.layers import lookup
from keras_pep.layers.embedding import TableEmbedding
from keras_pep.sparse import SparseTable, column_dtype

if TYPE_CHECKING:
    from keras_pep.search.ticket import Ticket


@keras.saving.register_keras_serializable(package="keras_pep")
class PrunedEmbedding(TableEmbedding):
    """Embedding whose table holds its kept entries and nothing else.

    The table is stored as compressed sparse rows: `values`, the column of
    each, and where every row starts. `values` are trained like any weight;
    what was pruned is not there to be trained. Looks up the same vectors as a
    `keras.layers.Embedding` of the table with zeros in place of the pruned.

    Make one with `from_dense` or `from_ticket`; the constructor alone gives a
    layer of the right size, to be filled by loading weights.

    Args:
        input_dim: Integer. Number of features, the rows of the table.
        output_dim: Integer. Base embedding size, the columns of the table.
        num_values: Integer. Number of kept entries.
        embeddings_regularizer: Regularizer for the kept entries.
        mask_zero: Boolean, whether id 0 is padding to be masked out.
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
        embeddings_regularizer: Any = None,
        mask_zero: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(input_dim, output_dim, mask_zero, **kwargs)
        if not 0 <= num_values <= self.input_dim * self.output_dim:
            raise ValueError(
                "`num_values` must be from 0 to `input_dim` * `output_dim`. "
                f"Received: num_values={num_values}, input_dim={input_dim}, "
                f"output_dim={output_dim}"
            )
        self.num_values = int(num_values)
        self.embeddings_regularizer = keras.regularizers.get(
            embeddings_regularizer
        )
        # TensorFlow cannot compile shapes that depend on values for XLA.
        self.supports_jit = keras.backend.backend() != "tensorflow"

    @classmethod
    def from_dense(
        cls, table: Any, mask: Any = None, **kwargs: Any
    ) -> "PrunedEmbedding":
        """The layer that looks up `table * mask`.

        Args:
            table: Float array of shape `(input_dim, output_dim)`.
            mask: Boolean array of the same shape, what to keep; by default
                all that is not zero.
            **kwargs: Arguments of the layer, such as `name`.

        Raises:
            ValueError: If shapes do not fit.
        """
        return cls.from_sparse(SparseTable.from_dense(table, mask), **kwargs)

    @classmethod
    def from_ticket(
        cls, ticket: "Ticket", table: str | None = None, **kwargs: Any
    ) -> "PrunedEmbedding":
        """The layer that a ticket describes, at its initial values.

        Args:
            ticket: What a search has found.
            table: Name of the layer that was searched; needed only if the
                ticket has several tables.
            **kwargs: Arguments of the layer, such as `name`.

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
    def from_sparse(cls, sparse: SparseTable, **kwargs: Any) -> Self:
        """The layer that stores the given table."""
        input_dim, output_dim = sparse.shape
        layer = cls(input_dim, output_dim, sparse.values.size, **kwargs)
        layer.build()
        layer.assign_sparse(sparse)
        return layer

    def build(self, input_shape: Any = None) -> None:
        """Creates `values`, `columns` and `row_splits`."""
        if self.built:
            return
        self.values = self.add_weight(
            name="values",
            shape=(self.num_values,),
            initializer="zeros",
            regularizer=self.embeddings_regularizer,
            trainable=self.num_values > 0,  # of nothing there is no gradient
            autocast=False,
        )
        self.values.is_table = True  # for optimizers, a table of one column
        self.columns = self.add_weight(
            name="columns",
            shape=(self.num_values,),
            dtype=column_dtype(self.output_dim),
            initializer="zeros",
            trainable=False,
            autocast=False,
        )
        self.row_splits = self.add_weight(
            name="row_splits",
            shape=(self.input_dim + 1,),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            autocast=False,
        )
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_values": self.num_values,
            "embeddings_regularizer": keras.regularizers.serialize(
                self.embeddings_regularizer
            ),
        }

    def assign_sparse(self, sparse: SparseTable) -> None:
        """Stores another table with as many rows, columns and kept entries.

        Raises:
            ValueError: If it has more or fewer.
        """
        own = (self.input_dim, self.output_dim, self.num_values)
        size = (*sparse.shape, sparse.values.size)
        if size != own:
            raise ValueError(
                "The table must have as many rows, columns and kept entries "
                f"as the layer, {own}. Received: {size}"
            )
        self.values.assign(sparse.values)
        self.columns.assign(sparse.columns)
        self.row_splits.assign(sparse.row_splits)

    def sparse(self) -> SparseTable:
        """The stored table."""
        return SparseTable(
            values=np.asarray(ops.convert_to_numpy(self.values)),
            columns=np.asarray(ops.convert_to_numpy(self.columns)),
            row_splits=np.asarray(ops.convert_to_numpy(self.row_splits)),
            output_dim=self.output_dim,
        )

    def _vectors(self, rows: Any) -> Any:
        count = ops.shape(rows)[0]
        if self.num_values == 0:
            return ops.zeros((count, self.output_dim), self.variable_dtype)
        number, position, kept = self._places(rows, count)
        values = lookup.take(self.values, position)
        columns = ops.cast(lookup.take(self.columns, position), "int32")
        if kept is not None:  # the others add zero to the first column
            values, columns = (ops.where(kept, x, 0) for x in (values, columns))
        vectors = ops.segment_sum(
            values,
            number * self.output_dim + columns,
            num_segments=count * self.output_dim,
        )
        return ops.reshape(vectors, (-1, self.output_dim))

    def _places(self, rows: Any, count: Any) -> tuple[Any, Any, Any]:
        """Where the kept entries of the rows are stored.

        Returns:
            For each entry the number of its row among `rows` and its position
            in `values`; and whether it is one, or None if all are. JAX needs
            to know shapes in advance: there every row has as many places as
            there are columns, and some are beyond its end.
        """
        number = ops.arange(count, dtype="int32")
        start = lookup.take(self.row_splits, rows)
        sizes = lookup.take(self.row_splits, rows + 1) - start
        if keras.backend.backend() == "jax":
            number = ops.repeat(number, self.output_dim)
            place = ops.tile(
                ops.arange(self.output_dim, dtype="int32"), (count,)
            )
            kept = place < ops.take(sizes, number)
            position = ops.take(start, number) + place
            return number, ops.where(kept, position, 0), kept
        ends = ops.cumsum(sizes)
        number = ops.repeat(number, sizes)
        place = ops.arange(ops.shape(number)[0], dtype="int32")
        # Entry k of all is entry k - (ends - sizes) of its row.
        return number, place + ops.take(start - ends + sizes, number), None
