"""Adagrad with one number of state for each row of a table."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_pep._keras_compat import accumulators_of, layout_of, trained_by
from keras_pep.optimizers.by_row import ByRowMixin, by_row, path_of, where
from keras_pep.optimizers.idle_steps import LONGEST_PULL
from keras_pep.runtime import keras_of


def pulled(
    rows: Sequence[Any], numbers: tuple[float, float], idle: Any, rate: Any
) -> tuple[Any, Any]:
    """Rows and their state after `idle` steps of no gradient but L2's.

    Such a step scales a row `w` as a whole. With time in place of `k = idle`
    steps, which starts half a step early, for the first counts in its own
    state: with `r = sqrt(state + h) + epsilon`, `h = l2**2 * mean(w**2) / 2`,

    ```
    dw / dk = -rate * l2 * w / r,    d(r**2) / dk = l2**2 * mean(w**2)
    ```

    whose solution is nearly `w * f`, `f = exp(-p / (r + r'))`, where `p = 2 *
    rate * l2 * k`, and `r'` is `r` in the end: the positive solution of `r' *
    (r' + p) = r * (r + p) + 2 * h * k`. The exponent is at least -10. The state
    becomes `(r' - epsilon)**2 - h * f**2`, if that is more.
    """
    (value, state), (l2, epsilon) = rows, numbers
    half = (l2**2 / 2) * _squares(value, state)
    start = ops.sqrt(state + half) + epsilon
    pull, grown = (2 * l2) * rate * idle, 2 * half * idle
    root = ops.sqrt(ops.square(2 * start + pull) + 4 * grown)
    end = 2 * (start * (start + pull) + grown) / (root + pull)
    left = ops.exp(-ops.minimum(pull / (start + end), LONGEST_PULL))
    grown_state = ops.square(end - epsilon) - half * ops.square(left)
    return value * left, ops.maximum(grown_state, state)


class RowwiseAdagradMixin(ByRowMixin):
    """Adagrad with one number of state for each row of a table.

    Row `w` of a table, with gradient `g`, and its state, at first
    `initial_accumulator_value`, become

    ```
    state += mean(g**2)                            # over the columns
    w -= learning_rate * g / (sqrt(state) + epsilon)
    ```

    This is the rule of DLRM and of FBGEMM for large tables. Where `LazyAdam`
    keeps two numbers for every entry, it keeps one for a row: `4 N` bytes for
    `N` rows of any width. As there, only rows that a batch has looked up are
    read and written. Other variables, such as the kernels of dense layers, have
    a state for every entry, as in DLRM: that is Adagrad, whose rates are as
    large. They are larger than Adam's: try 0.01 to 0.1.

    L2 regularization is added to the gradient of every row in every step. For
    steps in which no batch has the row it is made up for, as by `LazyAdam`: by
    a closed form (`rowwise_adagrad.pulled`), before the next update of a row,
    and for all rows in `catch_up`. This needs the step of each row's last
    update, `8 N` bytes more (`4 N` on JAX and PyTorch). L2 does not act on
    threshold logits.

    Args:
        learning_rate: Float or learning-rate schedule.
        l2: Float, not negative. Weight of `l2 / 2 * variable**2` in the loss.
        epsilon: Float.
        initial_accumulator_value: Float, not negative.
        **kwargs: Other arguments of `keras.optimizers.Adagrad`, but for those
            that make gradients dense, see `LazyAdam`.

    Raises:
        ValueError: If an argument makes gradients dense, or `l2` is negative.

    Example:

    ```python
    model.compile(
        keras_pep.optimizers.RowwiseAdagrad(0.05),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    ```

    Reference:
        - [Naumov et al., 2019](https://arxiv.org/abs/1906.00091), DLRM, whose
          code has it as `RWSAdagrad`
    """

    _aged = staticmethod(pulled)

    def __init__(
        self,
        learning_rate: Any = 0.01,
        l2: float = 0.0,
        epsilon: float = 1e-8,
        name: str = "rowwise_adagrad",
        initial_accumulator_value: float = 0.0,
        **kwargs: Any,
    ) -> None:
        kwargs["initial_accumulator_value"] = initial_accumulator_value
        super().__init__(learning_rate, l2, epsilon, name, **kwargs)

    def add_variable_from_reference(
        self, variable: Any, name: str, **_: Any
    ) -> Any:
        """Create a variable's state: of one column, if it is a table's."""
        shape = tuple(variable.shape)
        if by_row(variable):
            shape = (*shape[:1], *(1 for _ in shape[1:]))
        start = self.initial_accumulator_value
        return self.add_variable(
            shape,
            initializer=keras_of(self).initializers.Constant(start),
            dtype=variable.dtype,
            name=f"{path_of(variable)}_{name}",
            **layout_of(variable),
        )

    def _held(self, index: int) -> list[Any]:
        return [trained_by(self)[index], accumulators_of(self)[index]]

    def _updated(
        self,
        index: int,
        held: Sequence[Any],
        aged: Sequence[Any],
        gradient: Any,
        rate: Any,
        touched: Any,
    ) -> Sequence[Any]:
        """Rows and their state after a step from what idle steps have made."""
        value, state = aged
        state = where(touched, state + _squares(gradient, state), held[1])
        step = rate * gradient / (ops.sqrt(state) + self.epsilon)
        return where(touched, value - step, held[0]), state

    def _idle_steps(self, l2: float, last: Any, dtype: Any) -> tuple[Any, ...]:
        """The arguments of `pulled` besides rows."""
        idle, _, mean = self._idle(last, dtype)
        return (l2, self.epsilon), idle, mean


@keras.saving.register_keras_serializable(package="keras_pep")
class RowwiseAdagrad(  # noqa: D101
    RowwiseAdagradMixin, keras.optimizers.Adagrad
):
    __doc__ = RowwiseAdagradMixin.__doc__


def _squares(values: Any, state: Any) -> Any:
    """Squares of values: their mean over the columns, if rows have a state."""
    squares = ops.square(values)
    if values.shape[1:] == state.shape[1:]:
        return squares
    return ops.mean(squares, axis=-1, keepdims=True)
