"""A model as it is served: every table stored compactly, and frozen."""

import functools
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import keras
import numpy as np

from keras_pep._keras_compat import layers_within
from keras_pep.blocks import row_blocks
from keras_pep.layers import (
    Linear,
    PEPEmbedding,
    PrunedEmbedding,
    RowEmbedding,
    variables,
)
from keras_pep.layers.embedding import TableMixin
from keras_pep.layers.exchange import copy_weights, exchanged, kind_of, walk
from keras_pep.layers.linear import LinearMixin
from keras_pep.layers.pep_embedding import PEPEmbeddingMixin
from keras_pep.layers.pruned_embedding import PrunedEmbeddingMixin
from keras_pep.layers.rounding import needs_row_scales
from keras_pep.layers.storage import Layout
from keras_pep.models.base import FieldModelMixin
from keras_pep.runtime import keras_of, layers_of
from keras_pep.sparse import SparseTable, splits_of

_WEIGHTS = "{}_weights"  # name of the table of a `Linear`


# Layers with a table, and what is kept of it, by name.
Tables = MutableMapping[str, tuple[keras.layers.Layer, SparseTable]]


def served_model(
    model: keras.Model,
    quantize: str | None = None,
    without_unknown: Sequence[bool] | None = None,
    found: Tables | None = None,
) -> keras.Model:
    """Copy a model with its tables stored in the fewest bytes.

    These are the tables of `PEPEmbedding`, less their thresholds, of
    `PrunedEmbedding`, `keras.layers.Embedding` and `Linear`.

    Args:
        model: Any built model whose layers are part of its configuration.
        quantize: None, `"float16"` or `"int8"`; a table of one column has
            float16 where int8 with one scale would round too roughly.
        without_unknown: Of a `FieldModel`, which fields have no id for values
            that training has not seen. They get one, behind the last, which
            counts nothing: neither a vector nor a first-order weight.
        found: What `tables_of` returns for the model, if that is known. Each
            table is taken out of it when it is packed, which saves memory.

    Returns:
        A new model, built, not compiled, which is not to be trained.

    Raises:
        ValueError: If two tables have the same name, or the layers are not
            part of the configuration.

    Example:

    ```python
    served = keras_pep.serving.served_model(model, quantize="int8")
    served(train[0][:2])  # (2, 1)
    ```
    """
    found = tables_of(model) if found is None else found
    own = table_weights(found)
    tables = {name: table for name, (_, table) in found.items()}
    config = keras_of(model).saving.serialize_keras_object(model)
    if isinstance(model, FieldModelMixin) and any(without_unknown or ()):
        assert without_unknown is not None
        tables = with_unknown(model, tables, without_unknown)
        sizes = np.add(model.field_sizes, without_unknown).tolist()
        config["config"]["field_sizes"] = sizes
        if hasattr(model.embedding, "tables"):  # one for each field
            config["config"]["embedding"]["config"]["field_sizes"] = sizes
    layouts: dict[str, Layout] = {}
    arrays: dict[str, dict[str, np.ndarray]] = {}
    for name in [*tables]:
        del found[name]
        table = tables.pop(name)
        layouts[name] = layout_of(table, quantize)
        arrays[name] = layouts[name].pack(table)
        del table  # before there is another, and a model
    served, made = exchanged(
        model,
        functools.partial(_compact, model, layouts),
        layouts,
        PrunedEmbeddingMixin,
        config,
    )
    for name in layouts:
        made[name].assign_arrays(arrays.pop(name))
    weights = [w for layer in made.values() for w in layer.weights]
    copy_weights(model, served, (own, weights))
    return served


def with_unknown(
    model: FieldModelMixin,
    tables: Mapping[str, SparseTable],
    without_unknown: Sequence[bool],
) -> dict[str, SparseTable]:
    """Add rows of which nothing is kept, for values that are unknown.

    Args:
        model: The model.
        tables: Its tables, by name.
        without_unknown: See `served_model`.

    Raises:
        ValueError: If a table has no row for each feature.
    """
    sizes, found = model.field_sizes, {}
    more = np.array(without_unknown, dtype=bool)
    # An embedding may have a table for each field.
    apart = [layer.name for layer in getattr(model.embedding, "tables", ())]
    for name, table in tables.items():
        places, rows = np.cumsum(sizes)[more], sum(sizes)
        if name in apart:
            rows = sizes[apart.index(name)]
            places = np.repeat(rows, more[apart.index(name)])
        if table.shape[0] != rows:
            raise ValueError(
                f"A table must have a row for each of the {rows:,} features. "
                f"Found: {table.shape[0]:,} rows. Received: "
                f"model={model.name!r}"
            )
        kept = np.insert(np.diff(table.row_splits), places, 0)
        found[name] = replace(table, row_splits=splits_of(kept))
    return found


def table_weights(tables: Tables) -> list[keras.Variable]:
    """List the variables that hold tables, as `tables_of` has found them."""
    return [
        weight
        for layer, _ in tables.values()
        for weight in (
            [layer.kernel] if isinstance(layer, LinearMixin) else layer.weights
        )
    ]


def tables_of(model: keras.Model) -> Tables:
    """Layers with a table, and what is kept of it, by their names.

    Raises:
        ValueError: If two have the same name, or one is not built.

    Example:

    ```python
    tables = keras_pep.serving.tables_of(model)
    ```
    """
    tables: Tables = {}
    kinds = (TableMixin, LinearMixin, keras_of(model).layers.Embedding)
    for layer in layers_within(model):
        name = layer.name
        if isinstance(layer, kinds) and not layer.built:
            raise ValueError(
                f"{name!r} has no weights yet: call the model on a batch first."
            )
        if isinstance(layer, PEPEmbeddingMixin | PrunedEmbeddingMixin):
            table = layer.sparse()
        elif isinstance(layer, keras_of(model).layers.Embedding):
            shape = (layer.input_dim, layer.output_dim)
            table = SparseTable.from_blocks(_blocks_of(layer, shape), shape)
        elif isinstance(layer, LinearMixin) and layer.embedding is None:
            name = _WEIGHTS.format(name)
            blocks = variables.blocks(layer.kernel)
            table = SparseTable.from_blocks(blocks, layer.kernel.shape)
        else:
            continue
        if name in tables:
            raise ValueError(
                "Give every embedding a name of its own. Received twice: "
                f"{name!r}"
            )
        tables[name] = layer, table
    return tables


def _blocks_of(
    layer: keras.layers.Embedding, shape: tuple[int, int]
) -> Iterable[np.ndarray]:
    if getattr(layer, "quantization_mode", None) is None:
        return variables.blocks(layer.embeddings)
    # What it looks up: scales are applied, and int4 is unpacked.
    return (
        keras.ops.convert_to_numpy(layer(np.arange(rows.start, rows.stop)))
        for rows in row_blocks(*shape)
    )


def layout_of(table: SparseTable, quantize: str | None) -> Layout:
    """Choose how a table is stored when it is served."""
    if quantize == "int8" and table.output_dim == 1 and needs_row_scales(table):
        quantize = "float16"  # which takes as much as an int8 and a scale
    return PrunedEmbedding.layout_of(table, None, quantize, trainable=False)


def _compact(
    model: keras.Model,
    layouts: Mapping[str, Layout],
    config: Mapping[str, Any],
) -> Mapping[str, Any] | None:
    """Make a table a frozen `PrunedEmbedding`, in a `Linear`, too."""
    kind, layer = kind_of(config), config.get("config", {})
    if kind in _TABLES:
        pruned = _pruned(layer, layouts, model)
        return {**config, **pruned}  # a functional model's has its nodes too
    if kind != _LINEAR:
        return None
    if layer["embedding"] is not None:
        exchange = functools.partial(_compact, model, layouts)
        weights = walk(layer["embedding"], exchange)
    else:  # a kernel of its own, whatever the layer computes with
        own = next(e for e in layers_within(model) if e.name == layer["name"])
        name, dtype = _WEIGHTS.format(own.name), own.variable_dtype
        weights = _pruned({"name": name, "dtype": dtype}, layouts, model)
    rows = weights["config"].get("input_dim", layer["input_dim"])
    layer = {**layer, "input_dim": rows, "embedding": weights}
    return {**config, "config": layer}


_LINEAR = keras.saving.get_registered_name(Linear)
_TABLES = (
    keras.saving.get_registered_name(PEPEmbedding),
    keras.saving.get_registered_name(PrunedEmbedding),
    keras.saving.get_registered_name(RowEmbedding),
    "Embedding",
)


def _pruned(
    layer: Mapping[str, Any], layouts: Mapping[str, Layout], model: keras.Model
) -> Any:
    dtype = layer.get("dtype")
    if isinstance(dtype, Mapping):  # that from before it was quantized
        dtype = dtype["config"].get("source_name", dtype)
    return keras_of(model).saving.serialize_keras_object(
        layers_of(model).PrunedEmbedding(
            **asdict(layouts[layer["name"]]),
            mask_zero=layer.get("mask_zero", False),
            combiner=layer.get("combiner"),
            name=layer["name"],
            dtype=dtype,
            trainable=False,
        )
    )
