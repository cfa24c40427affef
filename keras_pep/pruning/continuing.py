"""Go on with a trained model when there are new features, and some are gone."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_pep._keras_compat import layers_within
from keras_pep.distribution.replicas import build_slots, scope_of
from keras_pep.layers import Linear, PEPEmbedding, PrunedEmbedding, variables
from keras_pep.layers.embedding import TableMixin
from keras_pep.layers.exchange import (
    compile_like,
    copy_weights,
    exchanged,
    in_place,
    kind_of,
    walk,
)
from keras_pep.layers.linear import LinearMixin
from keras_pep.layers.pep_embedding import PEPEmbeddingMixin
from keras_pep.layers.prefixes import fits_prefixes
from keras_pep.layers.pruned_embedding import PrunedEmbeddingMixin
from keras_pep.layers.row_embedding import RowEmbedding
from keras_pep.models.base import FieldModelMixin
from keras_pep.optimizers import catch_up
from keras_pep.optimizers.by_row import path_of
from keras_pep.pruning.fitting import fit
from keras_pep.pruning.retraining import pruned_model
from keras_pep.pruning.sizes import entries_of
from keras_pep.pruning.ticket import pep_layers
from keras_pep.runtime import (
    keras_of,
    layers_of,
    refuse_legacy,
    weights_of,
)
from keras_pep.sparse import SparseTable

_PRUNED = keras.saving.get_registered_name(PrunedEmbedding)
_LINEAR = keras.saving.get_registered_name(Linear)
_TABLES = (
    *(_PRUNED, keras.saving.get_registered_name(PEPEmbedding)),
    *("Embedding", keras.saving.get_registered_name(RowEmbedding)),
)
_ALIKE = (
    *("name", "dtype", "input_dim", "output_dim", "mask_zero", "combiner"),
    "embeddings_regularizer",
)

# See `grown`.
Rows = Mapping[str, np.ndarray] | Sequence[np.ndarray]


def continued(
    model: keras.Model,
    rows: Rows,
    train: Any,
    validation: Any = None,
    *,
    budget: int | None = None,
    sparsity: float | None = None,
    max_bytes: int | str | None = None,
    quantize: str | None = None,
    epochs: int = 2,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **fit_arguments: Any,
) -> keras.Model:
    """Go on with a small model on later data, whose features are others.

    Known features start where the model ended, as do dense layers and the
    state of the optimizer. New ones start with whole rows, untrained. After
    half of the epochs the smallest entries are cut, those of known and of new
    features alike; the other half trains what is left.

    Args:
        model: A compiled model with a `PrunedEmbedding` or `PEPEmbedding`,
            trained, whose layers are part of its configuration. It is left as
            it is.
        rows: See `grown`.
        train: See `search`; with the new ids.
        validation: See `search`.
        budget: How many embedding parameters may stay; by default as many as
            the model has.
        sparsity: Or the share of them to prune.
        max_bytes: Or the bytes that the tables may take when exported.
        quantize: The type of values that `max_bytes` is for.
        epochs: At least 2.
        callbacks: Further callbacks for `model.fit`.
        **fit_arguments: Further arguments for `model.fit`.

    Returns:
        A new compiled model with a `PrunedEmbedding` for each table.

    Raises:
        ValueError: If the model is not compiled, or an argument is not as
            described.

    Example:

    ```python
    small = keras_pep.prune(model, train, sparsity=0.9, epochs=2)
    stay, new = np.arange(4_000), np.full(100, -1)
    rows = [np.append(stay, new), stay]  # of each field
    later = keras_pep.continued(small, rows, train)
    ```
    """
    refuse_legacy(model)
    if not model.compiled or epochs < 2:
        raise ValueError(
            "The model must be compiled, and `epochs` at least 2. Received: "
            f"model={model.name!r}, epochs={epochs}"
        )
    made = grown(model, rows)
    layers = pep_layers(made)
    if budget is sparsity is max_bytes is None:
        budget = _kept(model)
    (entries,) = entries_of(
        layers,
        budget=budget,
        sparsity=sparsity,
        max_bytes=max_bytes,
        quantize=quantize,
    )
    arguments = {"callbacks": list(callbacks), **fit_arguments}
    fit(made, train, validation, epochs=epochs // 2, **arguments)
    cut(made, entries)
    fit(made, train, validation, epochs=epochs - epochs // 2, **arguments)
    small = pruned_model(made)
    with scope_of(small):
        compile_like(made, small)
    _copy_state(made, small)
    return small


def grown(model: keras.Model, rows: Rows) -> keras.Model:
    """Make the same model with other features: new ones, and some gone.

    A `PrunedEmbedding` becomes a `PEPEmbedding` to train and to `cut`: what was
    pruned of a known feature stays pruned, and the rows of new ones are whole,
    as the layer's initializer draws them. First-order weights of new features
    are zero. Everything else is copied: other weights, and the state of the
    optimizer if the model is compiled.

    Args:
        model: A built model whose layers are part of its configuration.
        rows: Of a `FieldModel`, an array for each field: of each id the id that
            its value had before, -1 of a new one, -2 of an id without a value;
            `Vocabulary.ids_in` makes them. Of another model the same for the
            rows of tables, by the names of their layers.

    Returns:
        A new model, compiled if the other is.

    Raises:
        ValueError: If `rows` do not fit the model.

    Example:

    ```python
    stay, new = np.arange(4_000), np.full(100, -1)
    larger = keras_pep.pruning.grown(model, [np.append(stay, new), stay])
    print(larger.field_sizes)  # (4100, 4000)
    ```
    """
    of = _rows_by_layer(model, rows)
    catch_up(getattr(model, "optimizer", None))
    config = keras_of(model).saving.serialize_keras_object(model)
    if isinstance(model, FieldModelMixin):
        config["config"]["field_sizes"] = [len(each) for each in rows]

    def exchange(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
        kind = kind_of(config)
        layer = dict(config["config"]) if kind in (*_TABLES, _LINEAR) else {}
        if layer.get("name") not in of:
            return None
        layer["input_dim"] = of[layer["name"]].size
        drawn = layer.get("embeddings_initializer") or {}
        if otherwise := drawn.get("config", {}).get("otherwise"):
            layer["embeddings_initializer"] = otherwise  # values of other rows
        if kind == _LINEAR:
            layer["embedding"] = walk(layer["embedding"], exchange)
        elif layer.get("field_sizes"):
            layer["field_sizes"] = [len(each) for each in rows]
        elif kind == _PRUNED:
            made = layers_of(model).PEPEmbedding(
                **{name: layer[name] for name in _ALIKE},
                embeddings_initializer="glorot_uniform",
            )
            return in_place(config, made)
        return {**config, "config": layer}

    with scope_of(model):
        made, found = exchanged(model, exchange, of, keras.layers.Layer, config)
        layers = {layer.name: layer for layer in layers_within(model)}
        for name, layer in found.items():
            _move(layers[name], layer, of[name])
        apart = [
            [w for name in of for w in _weights(known[name])]
            for known in (layers, found)
        ]
        copy_weights(model, made, (apart[0], apart[1]))
        if model.compiled:
            compile_like(model, made)
            _copy_state(model, made, of)
    return made


def cut(model: keras.Model, budget: int) -> None:
    """Cut the smallest entries of a model's tables; the others stay.

    Where the rows of all tables keep their first columns, an entry is as large
    as what follows it in its row, so that they still do. What is cut stays zero
    in training; the optimizer forgets it.

    Args:
        model: A model with one or more `PEPEmbedding` layers.
        budget: How many entries may stay, of all tables together.

    Example:

    ```python
    keras_pep.pruning.cut(model, 30_000)
    small = keras_pep.pruned_model(model)
    ```
    """
    layers = pep_layers(model)
    catch_up(getattr(model, "optimizer", None))
    tables = [layer.sparse() for layer in layers]
    prefixes = all(fits_prefixes(table, None) for table in tables)
    scores = [score_of(table, prefixes=prefixes) for table in tables]
    every = np.concatenate([score.ravel() for score in scores])
    kept = np.zeros(every.size, bool)
    kept[np.argsort(-every, kind="stable")[:budget]] = True
    ends = np.cumsum([score.size for score in scores])
    for layer, table, mask in zip(
        layers, tables, np.split(kept & (every > 0), ends[:-1]), strict=True
    ):
        mask = mask.reshape(table.shape)
        keep_only(model, layer, SparseTable.from_dense(table.to_dense(), mask))


def keep_only(model: keras.Model, layer: Any, table: SparseTable) -> None:
    """Make a table that of a layer, and the optimizer forget all other entries.

    Momentum would move what has been cut.
    """
    layer.assign_sparse(table)
    optimizer, mask = getattr(model, "optimizer", None), table.mask()
    for slot in optimizer.variables if optimizer and optimizer.built else ():
        if slot.name.startswith(f"{path_of(layer.embeddings)}_") and (
            tuple(slot.shape) == mask.shape
        ):
            variables.assign(slot, variables.values_of(slot) * mask)


def score_of(table: SparseTable, *, prefixes: bool) -> np.ndarray:
    """Size of each entry: its own, or with all that follows in its row."""
    dense = np.abs(table.to_dense())
    return norms_of(dense) if prefixes else dense


def norms_of(table: np.ndarray) -> np.ndarray:
    """Norm of what follows each entry in its row, with the entry itself."""
    squares = np.square(table[:, ::-1], dtype=np.float64)
    norms: np.ndarray = np.sqrt(np.cumsum(squares, axis=1)[:, ::-1])
    return norms


def _kept(model: keras.Model) -> int:
    return sum(
        layer.sparse().values.size
        for layer in layers_within(model)
        if isinstance(layer, PEPEmbeddingMixin | PrunedEmbeddingMixin)
    )


def _rows_by_layer(model: keras.Model, rows: Rows) -> dict[str, np.ndarray]:
    """The earlier row of each row of a table, by the names of layers."""
    kinds = (TableMixin, LinearMixin, keras_of(model).layers.Embedding)
    tables = {
        layer.name: layer.input_dim
        for layer in layers_within(model)
        if isinstance(layer, kinds)
    }
    if isinstance(model, FieldModelMixin):
        if isinstance(rows, Mapping) or len(rows) != len(model.field_sizes):
            raise ValueError(
                "`rows` must have an array for each of the "
                f"{len(model.field_sizes)} fields. Received: {len(rows)}"
            )
        _check(rows, model.field_sizes)
        starts = np.cumsum((0, *model.field_sizes[:-1]))
        every = np.concatenate(
            [
                np.where(np.asarray(each) < 0, each, start + np.asarray(each))
                for each, start in zip(rows, starts, strict=True)
            ]
        )
        size = sum(model.field_sizes)
        return {name: every for name, found in tables.items() if found == size}
    if not isinstance(rows, Mapping) or not {*rows} <= {*tables}:
        raise ValueError(
            "`rows` must be a mapping from names of layers with a table, of "
            f"which there are {sorted(tables)}. Received: {[*rows]}"
        )
    _check([*rows.values()], [tables[name] for name in rows])
    return {name: np.asarray(each) for name, each in rows.items()}


def _check(rows: Sequence[np.ndarray], sizes: Sequence[int]) -> None:
    for each, size in zip(rows, sizes, strict=True):
        known = np.asarray(each)
        known = known[known >= 0]
        if (known >= size).any() or np.unique(known).size < known.size:
            raise ValueError(
                "`rows` must name each earlier row once at most, below "
                f"{size:,}. Received: {np.asarray(each)}"
            )


def _move(layer: Any, made: Any, rows: np.ndarray) -> None:
    """Bring the rows of a table to where they are in a larger one."""
    if isinstance(made, PEPEmbeddingMixin):
        table = layer.sparse()
        values = _moved(table.to_dense(), rows, made.initial_embeddings())
        mask = _moved(table.mask(), rows, np.ones(values.shape, bool))
        made.assign_sparse(SparseTable.from_dense(values, mask))
        return
    for old, new in zip(_weights(layer), _weights(made), strict=True):
        fresh = variables.values_of(new)
        variables.assign(new, _moved(variables.values_of(old), rows, fresh))


def _moved(
    values: np.ndarray, rows: np.ndarray, fresh: np.ndarray
) -> np.ndarray:
    """Take earlier rows where there are, fresh ones elsewhere, or nothing."""
    made = np.array(fresh)
    made[rows >= 0] = values[rows[rows >= 0]]
    made[rows < -1] = 0
    return made


def _weights(layer: Any) -> list[Any]:
    """The variables of a layer that depend on which features there are."""
    if isinstance(layer, LinearMixin):
        return [] if layer.embedding is not None else [layer.kernel]
    return list(layer.weights)


def _copy_state(
    model: keras.Model,
    made: keras.Model,
    rows: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Give the optimizer of a model the state of another's.

    Args:
        model: The other model.
        made: The model, compiled.
        rows: Of tables whose rows are others, see `grown`.
    """
    if not (model.optimizer and model.optimizer.built):
        return
    build_slots(made)
    state = {v.name: v for v in model.optimizer.variables}
    slots = {v.name: v for v in made.optimizer.variables}
    own, layers = (
        {layer.name: layer for layer in layers_within(each)}
        for each in (made, model)
    )
    tables = [
        n
        for n, layer in own.items()
        if n in layers and table_of(layer) is not None
    ]
    pairs = [(table_of(layers[n]), table_of(own[n]), n) for n in tables]
    others = [
        [w for w in weights_of(each) if id(w) not in known]
        for each, known in (
            (each, {id(w) for n in tables for w in _weights(of[n])})
            for each, of in ((model, layers), (made, own))
        )
    ]
    pairs += [(*pair, "") for pair in zip(*others, strict=True)]
    for old, new, layer in pairs:
        for name in [n for n in slots if n.startswith(f"{path_of(new)}_")]:
            found = state.get(path_of(old) + name.removeprefix(path_of(new)))
            slot = slots[name]
            if found is None:
                continue
            values = variables.values_of(found)
            if layer and name.endswith("_last_step"):  # all are up to date
                values = np.full(slot.shape, model.optimizer.iterations)
            elif layer:
                values = _by_row(layers[layer], values)
                if rows is not None and layer in rows:
                    shape = len(rows[layer]), *values.shape[1:]
                    values = _moved(values, rows[layer], np.zeros(shape))
                values = _as_stored(own[layer], values)
            if values.shape == tuple(slot.shape):
                variables.assign(slot, values)
    for name in state.keys() & slots.keys():
        if not tuple(state[name].shape):  # the step, and the rate
            variables.assign(slots[name], variables.values_of(state[name]))


def table_of(layer: Any) -> Any:
    """The trained variable of a table; None of a layer without one."""
    if isinstance(layer, LinearMixin):
        return None if layer.embedding is not None else layer.kernel
    if isinstance(layer, PrunedEmbeddingMixin):
        return layer.values
    return getattr(layer, "embeddings", None)


def _by_row(layer: Any, values: np.ndarray) -> np.ndarray:
    """Bring what is known of each entry into the shape of the table."""
    if not isinstance(layer, PrunedEmbeddingMixin):
        return values
    arrays = {
        name: variables.values_of(getattr(layer, name))
        for name in layer.layout.arrays
    }
    return layer.layout.unpack({**arrays, "values": values}).to_dense()


def _as_stored(layer: Any, values: np.ndarray) -> np.ndarray:
    """Bring what is known of each entry into the shape it is trained in."""
    kept = isinstance(layer, PrunedEmbeddingMixin)
    if not kept or values.shape != (layer.input_dim, layer.output_dim):
        return values
    table = layer.sparse().with_values_of([values])
    return np.asarray(layer.layout.pack(table)["values"])
