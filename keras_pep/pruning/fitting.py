"""Training by `model.fit`, for `search` and `retrain` alike."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_pep.distribution.replicas import prepare, scope_of

_ROWS = 32  # of the batches that Keras makes of arrays


def fit(
    model: keras.Model, x: Any, validation: Any = None, **arguments: Any
) -> None:
    """Train a compiled model, which is built first if it is not.

    Args:
        model: The model.
        x: Arrays `(x, y)` or `(x, y, sample_weight)`, a `keras_pep.data.Split`,
            or what `model.fit` takes as `x`.
        validation: A `Split`, or what `model.fit` takes as `validation_data`.
        **arguments: Others of `model.fit`. By default it is silent, and
            shuffles arrays only.

    Raises:
        ValueError: If arrays come without the labels that the model's loss
            needs, or a model cannot be built without taking a batch out of the
            data.
    """
    validation = _arrays_of(validation)
    given = {"verbose": 0, **_named(_arrays_of(x), arguments)}
    if model.loss is not None:
        if given.get("y") is None:
            _refuse_arrays("train", given["x"])
        if not isinstance(validation, tuple | list):
            _refuse_arrays("validation", validation)
    if not _are_arrays(given["x"]):
        given.setdefault("shuffle", False)
    if not model.built:
        with scope_of(model):
            model(_inputs(given["x"], given.get("batch_size") or _ROWS))
    prepare(model)
    model.fit(validation_data=validation, **given)


def _arrays_of(data: Any) -> Any:
    """Return the ids, labels and weights of a `keras_pep.data.Split`."""
    if not (hasattr(data, "ids") and hasattr(data, "in_memory")):
        return data
    if not data.in_memory:
        raise ValueError(
            "The rows of this `Split` are in files. Expected: rows in memory. "
            "Pass batches of them: `keras_pep.data.batches`."
        )
    if data.weights is None:
        return data.ids, data.labels
    return data.ids, data.labels, data.weights


def _named(train: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `model.fit`, with those that `train` stands for."""
    if not isinstance(train, tuple) or arguments.get("y") is not None:
        return {**arguments, "x": train}
    names = ("x", "y", "sample_weight")[: len(train)]
    if len(train) not in (2, 3) or arguments.keys() & {*names[2:]}:
        raise ValueError(
            "A tuple to train on is (x, y) or (x, y, sample_weight). Received: "
            f"{len(train)} items, and the arguments {sorted(arguments)}"
        )
    return {**arguments, **dict(zip(names, train, strict=True))}


def _refuse_arrays(name: str, data: Any) -> None:
    if _are_arrays(data):
        raise ValueError(
            f"`{name}` has no labels: pass a tuple (x, y) or "
            "(x, y, sample_weight), or batches of them such as a "
            f"`tf.data.Dataset`. Received: {type(data).__name__}"
        )


def _are_arrays(x: Any) -> bool:
    """Whether Keras makes the batches, of an array or a structure of them."""
    leaves = keras.tree.flatten(x)
    return bool(leaves) and all(hasattr(leaf, "shape") for leaf in leaves)


def _inputs(x: Any, rows: int) -> Any:
    """Inputs to build a model with, without taking a batch out of the data."""
    if _are_arrays(x):
        return keras.tree.map_structure(lambda array: _first(array, rows), x)
    if isinstance(x, keras.utils.PyDataset):
        return _inputs_of(x[0])
    if hasattr(x, "element_spec"):  # a `tf.data.Dataset`
        return keras.tree.map_structure(_symbolic, _inputs_of(x.element_spec))
    if hasattr(x, "collate_fn") and hasattr(x.dataset, "__getitem__"):
        # A `DataLoader` of PyTorch, whose own loop would draw random numbers.
        return _inputs_of(x.collate_fn([x.dataset[0]]))
    raise ValueError(
        "The model is not built, and the shape of its inputs is unknown until "
        "a batch is taken from the data: call the model on a batch first. "
        f"Received: train={type(x).__name__}"
    )


def _inputs_of(batch: Any) -> Any:
    return keras.utils.unpack_x_y_sample_weight(batch)[0]


def _first(array: Any, rows: int) -> Any:
    part = array[:rows]
    return part.to_numpy() if hasattr(part, "to_numpy") else part


def _symbolic(spec: Any) -> keras.KerasTensor:
    if spec.shape.rank is None:
        raise ValueError(
            "The model is not built, and the data do not say the shape of its "
            "inputs: call the model on a batch first. "
            f"Received: {spec}"
        )
    kinds: dict[str, Any] = {
        "SparseTensorSpec": lambda: {"sparse": True},
        "RaggedTensorSpec": lambda: {
            "ragged": True,
            "ragged_rank": spec.ragged_rank,
            "row_splits_dtype": spec.row_splits_dtype,
        },
    }
    kind = kinds.get(type(spec).__name__, dict)()
    return keras.KerasTensor(tuple(spec.shape), spec.dtype.name, **kind)
