"""Functions whose gradients are written out, on every backend."""

import functools
from collections.abc import Callable
from typing import Any

from keras import ops


def with_gradient(function: Callable[..., tuple[Any, Any]]) -> Any:
    """A decorator for functions of tensors that give their gradient, too.

    `ops.custom_gradient`, whose gradient functions PyTorch calls with the
    inputs and an `upstream`, and the others with what is upstream alone.

    Args:
        function: Of tensors; returns a tensor, and a function of the gradient
            of that, which returns those of the inputs.
    """

    @functools.wraps(function)
    def adapted(*tensors: Any) -> tuple[Any, Any]:
        result, gradients = function(*tensors)

        def of(*given: Any, upstream: Any = None) -> Any:
            return gradients(given[0] if upstream is None else upstream)

        return result, of

    return ops.custom_gradient(adapted)
