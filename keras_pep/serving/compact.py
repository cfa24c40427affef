"""A model as it is served: every table stored compactly, and frozen."""

import functools
from collections.abc import Mapping, MutableMapping, Sequence
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
from keras_pep.layers.storage import Layout, needs_row_scales
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
    """
    found = tables_of(model) if found is None else found
    own = _table_weights(found)
    tables = {name: table for name, (_, table) in found.items()}
    config = keras_of(model).saving.serialize_keras_object(model)
    if isinstance(model, FieldModelMixin) and any(without_unknown or ()):
        assert without_unknown is not None
        sizes = model.field_sizes
        more = np.array(without_unknown, dtype=np.int64)
        config["config"]["field_sizes"] = (np.array(sizes) + more).tolist()
        ends = np.cumsum(sizes)[np.array(without_unknown, dtype=bool)]
        # An embedding may have a table for each field.
        apart = [layer.name for layer in getattr(model.embedding, "tables", ())]
        if apart:
            layer = config["config"]["embedding"]["config"]
            layer["field_sizes"] = config["config"]["field_sizes"]
        for name, table in tables.items():
            places, rows = ends, sum(sizes)
            if name in apart:
                rows = sizes[apart.index(name)]
                places = np.repeat(rows, more[apart.index(name)])
            tables[name] = _with_empty_rows(table, places, rows, model)
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


def tables_of(model: keras.Model) -> Tables:
    """Layers with a table, and what is kept of it, by their names.

    Raises:
        ValueError: If two have the same name, or one is not built.
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
            table = _table_of_embedding(layer)
        elif isinstance(layer, LinearMixin) and layer.embedding is None:
            name = _WEIGHTS.format(name)
            table = _table(layer.kernel)
        else:
            continue
        if name in tables:
            raise ValueError(
                "Give every embedding a name of its own. Received twice: "
                f"{name!r}"
            )
        tables[name] = layer, table
    return tables


def _table_of_embedding(layer: keras.layers.Embedding) -> SparseTable:
    if getattr(layer, "quantization_mode", None) is None:
        return _table(layer.embeddings)
    # What it looks up: scales are applied, and int4 is unpacked.
    shape = (layer.input_dim, layer.output_dim)
    return SparseTable.from_blocks(
        (
            keras.ops.convert_to_numpy(layer(np.arange(rows.start, rows.stop)))
            for rows in row_blocks(*shape)
        ),
        shape,
    )


def _table(variable: keras.Variable) -> SparseTable:
    return SparseTable.from_blocks(variables.blocks(variable), variable.shape)


def layout_of(table: SparseTable, quantize: str | None) -> Layout:
    """Choose how a table is stored when it is served."""
    if quantize == "int8" and table.output_dim == 1 and needs_row_scales(table):
        quantize = "float16"  # which takes as much as an int8 and a scale
    return PrunedEmbedding.layout_of(table, None, quantize, trainable=False)


def _with_empty_rows(
    table: SparseTable,
    places: np.ndarray,
    features: int,
    model: keras.Model,
) -> SparseTable:
    """Insert an empty row before each of some places."""
    if table.shape[0] != features:
        raise ValueError(
            f"A table of {table.shape[0]:,} rows has none for each of the "
            f"{features:,} features. Received: model={model.name!r}"
        )
    sizes = np.insert(np.diff(table.row_splits), places, 0)
    return replace(table, row_splits=splits_of(sizes))


def _compact(
    model: keras.Model,
    layouts: Mapping[str, Layout],
    config: Mapping[str, Any],
) -> Mapping[str, Any] | None:
    """Make a table a frozen `PrunedEmbedding`, in a `Linear`, too."""
    kind = kind_of(config)
    if kind in _TABLES:
        layer = config["config"]
        pruned = _pruned(layer, layouts[layer["name"]], model)
        return {**config, **pruned}  # a functional model's has its nodes too
    if kind != _LINEAR:
        return None
    layer = config["config"]
    if layer["embedding"] is None:  # a kernel of its own
        own = {
            "name": _WEIGHTS.format(layer["name"]),
            # As a kernel is, whatever the layer computes with.
            "dtype": next(
                each.variable_dtype
                for each in layers_within(model)
                if each.name == layer["name"]
            ),
        }
        weights = _pruned(own, layouts[own["name"]], model)
    else:
        exchange = functools.partial(_compact, model, layouts)
        weights = walk(layer["embedding"], exchange)
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
    layer: Mapping[str, Any], layout: Layout, model: keras.Model
) -> Any:
    return keras_of(model).saving.serialize_keras_object(
        layers_of(model).PrunedEmbedding(
            **asdict(layout),
            mask_zero=layer.get("mask_zero", False),
            combiner=layer.get("combiner"),
            name=layer["name"],
            dtype=_unquantized(layer.get("dtype")),
            trainable=False,
        )
    )


def _unquantized(dtype: Any) -> Any:
    """Return the dtype of a layer as it was before it was quantized."""
    if isinstance(dtype, Mapping) and "source_name" in dtype["config"]:
        return dtype["config"]["source_name"]
    return dtype


def _table_weights(tables: Tables) -> list[keras.Variable]:
    return [
        weight
        for layer, _ in tables.values()
        for weight in (
            [layer.kernel] if isinstance(layer, LinearMixin) else layer.weights
        )
    ]
