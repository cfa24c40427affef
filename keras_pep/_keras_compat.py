"""The private attributes of Keras that we need, each with the reason.

Those of optimizers are the same in `tf_keras`, see `keras_pep.tfrs.optimizers`.
"""

import sys
from typing import Any

import keras


def layers_within(layer: Any, include_self: bool = True) -> list[Any]:
    """All layers of a model or layer; public is only the first level."""
    found: list[Any] = layer._flatten_layers(include_self=include_self)
    return found


def trained_by(optimizer: Any) -> list[Any]:
    """The variables of a built optimizer; public are only its own."""
    trained: list[Any] = optimizer._trainable_variables
    return trained


def index_of(optimizer: Any, variable: Any) -> int:
    """The number of a variable; TensorFlow's own is found, too.

    That is what TensorFlow passes to `update_step`.
    """
    index: int = optimizer._get_variable_index(variable)
    return index


def moments_of(optimizer: Any) -> tuple[list[Any], list[Any]]:
    """Both moments of Adam for each variable, once it is built."""
    return (
        getattr(optimizer, "_momentums", []),
        getattr(optimizer, "_velocities", []),
    )


def accumulators_of(optimizer: Any) -> list[Any]:
    """The sums of squares that Adagrad keeps, once it is built."""
    found: list[Any] = optimizer._accumulators
    return found


def rate_of(optimizer: Any) -> Any:
    """The learning rate's variable or schedule; public is only its value."""
    return getattr(optimizer, "_learning_rate", optimizer)


def optimizers_within(optimizer: Any) -> list[Any]:
    """The optimizers that one is made of; those of several are private."""
    one = getattr(optimizer, "inner_optimizer", None)
    several = getattr(optimizer, "_inner_optimizers", ())
    return [*([] if one is None else [one]), *several]


def layout_of(variable: Any) -> dict[str, Any]:
    """How devices share a variable, for `add_variable`, as Keras does it."""
    layout = getattr(variable, "_layout", None)
    return {} if layout is None else {"layout": layout}


def are_gone(variables: list[Any]) -> bool:
    """Whether an interrupted step has taken their values along, on JAX."""
    if keras.backend.backend() != "jax":
        return False
    values = [variable._value for variable in variables]
    return any(value is None or value.is_deleted() for value in values)


def called_layer(legacy: bool) -> Any:
    """The layer that is being called in one of both Kerases, or None.

    Args:
        legacy: Whether one of `tf_keras` is looked for.
    """
    if legacy:
        source = sys.modules["tf_keras"].src.engine.base_layer_utils
        context = source.call_context()
        return context.layer if context.in_call else None
    state = keras.src.backend.common.global_state
    context = state.get_global_attribute("current_call_ctx")
    return context and context.entry_layer
