"""Embedding sizes set by popularity, without learning them: a baseline."""

from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from keras_pep.lab.presets import preset
from keras_pep.layers import lookup
from keras_pep.layers.embedding import lengths_of_fields, positive_integer
from keras_pep.layers.ids import (
    Bounds,
    IdsMixin,
    as_ids,
    checked,
    nan_where_wrong,
    of_columns,
)


@keras.saving.register_keras_serializable(package="keras_pep")
class MixedDimensionEmbedding(IdsMixin, keras.layers.Layer):
    """One table per field, each of its own width, projected to a common one.

    ```
    vector = table_f[id] @ projection_f
    ```

    A field whose table is as wide as the output has no projection.

    Args:
        field_sizes: Number of features of each field, in the order of their
            rows.
        field_dims: Width of the table of each field, at most `output_dim`; see
            `mixed_dimensions`.
        output_dim: Integer. Size of the vectors.
        embeddings_initializer: Initializer for tables and projections.
        field_lengths: Number of columns of each field, by default 1; a field
            of several is a list of features.
        tables: A layer that looks up each field, by default a
            `keras.layers.Embedding`.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input shape:
        Integer tensor `(batch, sum(field_lengths))` of rows, those of a field
        following those of the field before. A row of another field is an error
        or NaN.

    Output shape:
        `(batch, sum(field_lengths), output_dim)`.

    Raises:
        ValueError: If an argument is not as described.

    Reference:
        - [Ginart et al., 2019](https://arxiv.org/abs/1909.11810)
    """

    built: bool

    def __init__(
        self,
        field_sizes: Sequence[int],
        field_dims: Sequence[int],
        output_dim: int,
        embeddings_initializer: Any = "glorot_uniform",
        field_lengths: Sequence[int] | None = None,
        tables: Sequence[keras.layers.Layer] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.output_dim = positive_integer("output_dim", output_dim)
        self.field_sizes = tuple(
            positive_integer("field_sizes", size) for size in field_sizes
        )
        self.field_dims = tuple(
            positive_integer("field_dims", dim) for dim in field_dims
        )
        if (
            len(self.field_dims) != len(self.field_sizes)
            or max(self.field_dims) > self.output_dim
        ):
            raise ValueError(
                "`field_dims` must have a width of at most `output_dim` for "
                f"each field. Received: field_dims={field_dims}, "
                f"field_sizes={field_sizes}, output_dim={output_dim}"
            )
        self.field_lengths = lengths_of_fields(field_lengths, self.field_sizes)
        self.embeddings_initializer = keras.initializers.get(
            embeddings_initializer
        )
        self.input_dim = sum(self.field_sizes)
        self.tables = tables or [
            keras.layers.Embedding(
                *(size, dim),
                embeddings_initializer=_anew(self.embeddings_initializer),
                name=f"table_{number}",
                dtype=self.dtype_policy,
            )
            for number, (size, dim) in enumerate(
                zip(self.field_sizes, self.field_dims, strict=True)
            )
        ]
        self.autocast = False  # ids stay integers
        self._first = np.cumsum((0, *self.field_sizes[:-1]), dtype=np.int32)
        self._bounds = Bounds.of_field_rows(
            self.field_sizes, self.field_lengths
        )

    def build(self, input_shape: Any = None) -> None:
        """Creates tables and projections."""
        if self.built:
            return
        self.projections = []
        for number, (table, dim) in enumerate(
            zip(self.tables, self.field_dims, strict=True)
        ):
            table.build()
            if isinstance(table, keras.layers.Embedding):
                table.embeddings.is_table = True  # for optimizers
            self.projections.append(
                None
                if dim == self.output_dim
                else self.add_weight(
                    name=f"projection_{number}",
                    shape=(dim, self.output_dim),
                    initializer=_anew(self.embeddings_initializer),
                    autocast=False,
                )
            )
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Looks every field up in its table."""
        columns = sum(self.field_lengths)
        rows, valid = checked(
            of_columns(as_ids(inputs), columns),
            self._bounds,
            kernels_check=True,
        )
        vectors, column = [], 0
        for first, length, table, projection in zip(
            self._first,
            self.field_lengths,
            self.tables,
            self.projections,
            strict=True,
        ):
            own = rows[:, column : column + length]
            column += length
            own = own - ops.cast(first, own.dtype)
            if isinstance(table, keras.layers.Embedding):
                read, spread = lookup.distinct(own)
                values = lookup.take(table.embeddings, read)
            else:
                values, spread = table(own), _as_it_is
            if projection is not None:
                values = ops.matmul(values, projection)
            vectors.append(spread(values))
        vectors = nan_where_wrong(ops.concatenate(vectors, axis=1), valid)
        return ops.cast(vectors, self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """`(batch, sum(field_lengths), output_dim)`."""
        return (*input_shape, self.output_dim)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "field_sizes": list(self.field_sizes),
            "field_dims": list(self.field_dims),
            "field_lengths": list(self.field_lengths),
            "output_dim": self.output_dim,
            "embeddings_initializer": keras.initializers.serialize(
                self.embeddings_initializer
            ),
            "tables": [
                keras.saving.serialize_keras_object(table)
                for table in self.tables
            ],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The layer that `get_config` describes."""
        tables = [
            keras.saving.deserialize_keras_object(table)
            for table in config["tables"]
        ]
        return cls(**{**config, "tables": tables})


def _as_it_is(values: Any) -> Any:
    return values


class BudgetTooSmallError(ValueError):
    """A budget that does not buy the smallest table.

    Args:
        budget: The parameters that there may be.
    """

    def __init__(self, budget: int) -> None:
        super().__init__(
            f"The smallest table has more than {budget:,} parameters."
        )


def mixed_dimensions(
    field_sizes: Sequence[int],
    output_dim: int,
    budget: int,
    temperature: float = preset("mixed_dimension_temperature"),
) -> tuple[int, ...]:
    """Choose the width of each field's table by the popularity of features.

    ```
    width_f ~ (1 / field_sizes_f) ** temperature
    ```

    since each example has one feature of every field, or a list of them that
    counts as one. Widths are scaled so
    that tables and projections together come as close to the budget as whole
    numbers allow, without passing it.

    Args:
        field_sizes: Number of features of each field.
        output_dim: Largest width.
        budget: How many parameters there may be.
        temperature: 0: all the same; 1: in proportion to popularity.

    Raises:
        BudgetTooSmallError: If even tables of one column are too large.

    Reference:
        - [Ginart et al., 2019](https://arxiv.org/abs/1909.11810), section 3
    """
    popularity = (1 / np.asarray(field_sizes)) ** temperature

    def widths(scale: float) -> tuple[int, ...]:
        wide = np.round(scale * popularity / popularity.min())
        return tuple(int(x) for x in np.clip(wide, 1, output_dim))

    scales = np.linspace(0, output_dim, 64 * output_dim + 1)
    fitting = [
        found
        for found in map(widths, scales)
        if parameters_of_mixed(field_sizes, found, output_dim) <= budget
    ]
    if not fitting:
        raise BudgetTooSmallError(budget)
    return max(
        fitting, key=lambda x: parameters_of_mixed(field_sizes, x, output_dim)
    )


def parameters_of_mixed(
    field_sizes: Sequence[int], widths: Sequence[int], output_dim: int
) -> int:
    """Count the entries of tables and projections."""
    return sum(
        size * width + (0 if width == output_dim else width * output_dim)
        for size, width in zip(field_sizes, widths, strict=True)
    )


def _anew(initializer: Any) -> Any:
    """Return an initializer that draws other values than before."""
    if not isinstance(initializer, keras.initializers.Initializer):
        return initializer
    return initializer.clone()
