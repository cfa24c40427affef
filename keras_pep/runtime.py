"""Which Keras a layer or model is of: Keras 3, or Keras 2 by `tf_keras`.

TensorFlow Recommenders runs on `tf_keras`, and the two do not mix. So what our
layers do is written once, in mixins, on `keras.ops`, which compute with the
tensors of both; a class of either Keras is a mixin and a base. Both have the
same name, so that their weights are stored alike. Those of `tf_keras` are in
`keras_pep.tfrs`.
"""

import functools
import importlib
import sys
from typing import TYPE_CHECKING, Any

import keras

from keras_pep._keras_compat import called_layer

if TYPE_CHECKING:
    from types import FrameType

_LEGACY = "tf_keras"
# What of a model calls layers besides `call`; AutoGraph puts `tf__` before it.
_STEPS = frozenset(["train_step", "test_step", "predict_step", "compute_loss"])


def keras_of(thing: Any) -> Any:
    """The Keras that a layer, a model or a class of them is of, a module."""
    kind = thing if isinstance(thing, type) else type(thing)
    return sys.modules[_LEGACY] if _is_legacy(kind) else keras


def layers_of(thing: Any) -> Any:
    """The module with our layers for the same Keras."""
    legacy = keras_of(thing) is not keras
    name = "keras_pep.tfrs.layers" if legacy else "keras_pep.layers"
    return importlib.import_module(name)


@functools.cache
def _is_legacy(kind: Any) -> bool:
    return any(
        base.__module__.partition(".")[0] == _LEGACY for base in kind.__mro__
    )


def weights_of(model: Any) -> list[Any]:
    """The weights of a model.

    Without vocabularies, which lookup layers of `tf_keras` count among them.
    """
    return [weight for weight in model.weights if hasattr(weight, "assign")]


# The base of mixins: nothing, but type checkers cannot know what they get.
EitherKeras: Any = object


class LayerMixin(EitherKeras):
    """Type of the layers and models of either Keras."""

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the layer, if it is a model of its own Keras that does so."""
        if sys.modules.get(_LEGACY) is not None:
            _refuse_the_other(self, inputs)
        return super().__call__(inputs, *args, **kwargs)


def refuse_model(callback: Any, model: Any) -> None:
    """Refuse a callback in the `fit` of the other Keras.

    Raises:
        TypeError: If it is.
    """
    if keras_of(callback) is not keras_of(model):
        raise TypeError(_mixed(callback, type(model).__name__))


def refuse_legacy(model: Any) -> None:
    """Refuse a model of `tf_keras` where `fit` would need our callbacks.

    Raises:
        TypeError: If it is.
    """
    if keras_of(model) is not keras:
        raise TypeError(
            f"{type(model).__name__} is of `tf_keras`: search and retrain it "
            "in one `fit`, by keras_pep.tfrs.PEPRetraining."
        )


def _refuse_the_other(layer: Any, inputs: Any) -> None:
    """Refuse to be part of a model of the other Keras.

    It would compute, but never be trained, nor saved.

    Raises:
        TypeError: If it is.
    """
    to_legacy = keras_of(layer) is keras
    other = sys.modules[_LEGACY] if to_legacy else keras
    symbolic = type(inputs).__name__ == "KerasTensor"
    caller = (
        inputs
        if symbolic and keras_of(inputs) is other
        else called_layer(legacy=to_legacy)
    )
    if caller is None and not layer.built:
        caller = _stepping(other)
    if caller is not None:
        raise TypeError(_mixed(layer, type(caller).__name__))


def _stepping(other: Any) -> Any:
    """The model whose method trains, tests or predicts, or None.

    Of a step nothing tells but the stack. It is read once, before a layer is
    built.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name.removeprefix("tf__") in _STEPS:
            caller = frame.f_locals.get("self")
            if isinstance(caller, other.layers.Layer):
                return caller
        frame = frame.f_back
    return None


def _mixed(ours: Any, other: str) -> str:
    name = type(ours).__name__
    if keras_of(ours) is keras:
        return (
            f"keras_pep's {name} is of Keras 3, and {other} is of `tf_keras`. "
            f"They do not work together: take {name} of keras_pep.tfrs there."
        )
    return (
        f"keras_pep.tfrs' {name} is of `tf_keras`, and {other} is of Keras 3. "
        f"They do not work together: take {name} of keras_pep there."
    )
