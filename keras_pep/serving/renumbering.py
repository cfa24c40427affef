"""Features in order of what they keep, which takes fewer bytes to store."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from keras_pep.layers.prefixes import fits_prefixes
from keras_pep.models.base import FieldModelMixin
from keras_pep.serving.compact import layout_of
from keras_pep.serving.sizes import feature_sizes, of_features
from keras_pep.sparse import SparseTable


def renumbering(
    model: keras.Model,
    tables: Mapping[str, SparseTable],
    quantize: str | None = None,
) -> np.ndarray | None:
    """Order the features of each field by what they keep, if it saves bytes.

    It does where rows keep their first columns: see `"prefix"` of `Layout`.

    Args:
        model: Whose tables they are.
        tables: By name.
        quantize: See `served_model`.

    Returns:
        Of each new row, which row it is now; None if it saves nothing.
    """
    if not isinstance(model, FieldModelMixin):
        return None
    own = of_features(model, tables)
    table = own.get(model.embedding.name)
    if table is None or not fits_prefixes(table, quantize):
        return None
    order = by_size(
        model.field_sizes, np.diff(table.row_splits), feature_sizes(model, own)
    )
    now, then = (
        sum(layout_of(each, quantize).bytes for each in tables)
        for tables in (
            own.values(),
            (each.reordered(order) for each in own.values()),
        )
    )
    return order if then < now else None


def reordered(
    tables: Mapping[str, SparseTable], order: np.ndarray | None
) -> dict[str, SparseTable]:
    """Bring the tables that have a row for each feature into an order.

    Args:
        tables: By name.
        order: From `renumbering`; None leaves them as they are.
    """
    return {
        name: table
        if order is None or table.shape[0] != order.size
        else table.reordered(order)
        for name, table in tables.items()
    }


def by_size(field_sizes: Sequence[int], *sizes: np.ndarray) -> np.ndarray:
    """Order the rows of each field, the largest first.

    Args:
        field_sizes: Rows of each field.
        *sizes: Of each row; the later ones decide where those before are equal.
    """
    field = np.repeat(np.arange(len(field_sizes)), field_sizes)
    return np.lexsort((*(-each for each in reversed(sizes)), field))
