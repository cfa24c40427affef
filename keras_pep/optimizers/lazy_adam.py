"""Adam that reads and writes only the rows that a batch has looked up."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_pep._keras_compat import moments_of, trained_by
from keras_pep._tf_kernels import adam, is_used, on_cpu
from keras_pep.layers import variables
from keras_pep.layers.initial import by_blocks
from keras_pep.optimizers.adam_l2 import AdamL2
from keras_pep.optimizers.by_row import ByRowMixin, by_row, path_of, where
from keras_pep.optimizers.idle_steps import aged, lag, power


class LazyAdamMixin(ByRowMixin):
    """Adam that reads and writes only the rows that a batch has looked up.

    The cost of a step follows the batch, not the table. A row that no example
    of the batch has is left as it is, and so are its moments; the bias
    correction counts all steps.

    With L2 regularization `AdamL2` also moves the rows that are not looked
    up: momentum runs out, and L2 pulls them to zero. This optimizer makes up
    for it, by a closed form of these idle steps (`idle_steps.aged`), before the
    next update of a row, and for all rows in `catch_up`. In between, rarely
    seen rows are larger than `AdamL2` would have them: call `catch_up` before
    you count, save, export or evaluate. Keras calls it at the end of `fit`;
    `keras_pep.search`, `keras_pep.retrain` and the callbacks of this package
    call it before they count, before validation and at the end of an epoch. A
    look-up itself still sees a row as its last update has left it.

    L2 does not act on threshold logits, which would rise with the popularity
    of their row: with this optimizer it is the clock that raises thresholds
    (`keras_pep.search` by budget). Variables that are not looked up by row,
    such as the kernels of dense layers, get the update of `AdamL2`.

    On TensorFlow the gradient says which rows were looked up. On JAX and
    PyTorch it is dense, so that the cost follows the table, and a row counts
    as looked up if its gradient is not zero.

    Args:
        learning_rate: Float or learning-rate schedule.
        l2: Float, not negative. Weight of `l2 / 2 * variable**2` in the loss.
        epsilon: Float, see `AdamL2`.
        **kwargs: Other arguments of `keras.optimizers.Adam`, but for those
            that make gradients dense: `global_clipnorm` and
            `gradient_accumulation_steps`, and averages of all weights,
            `use_ema`.

    Raises:
        ValueError: If an argument makes gradients dense, or `l2` is negative.

    Example:

    ```python
    optimizer = keras_pep.optimizers.LazyAdam(1e-3, l2=1e-5)
    model.compile(
        optimizer, keras.losses.BinaryCrossentropy(from_logits=True)
    )
    model.fit(*train)
    optimizer.catch_up()  # before the table is read
    ```
    """

    _aged = staticmethod(aged)

    def __init__(
        self,
        learning_rate: Any = 0.001,
        l2: float = 0.0,
        epsilon: float = 1e-8,
        name: str = "lazy_adam",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, l2, epsilon, name, **kwargs)

    def _updated(
        self,
        index: int,
        held: Sequence[Any],
        aged: Sequence[Any],
        gradient: Any,
        rate: Any,
        touched: Any,
    ) -> Sequence[Any]:
        """Rows and their moments after a step from what idle steps made."""
        (value, m, v), (aged_value, aged_m, aged_v) = held, aged
        step = ops.cast(self.iterations + 1, value.dtype)
        speed = rate * self._correction(step)
        if touched is None and is_used("adam") and on_cpu():
            return adam(
                {"var": aged_value, "m": aged_m, "v": aged_v},
                {
                    "lr": speed,
                    "beta1": self.beta_1,
                    "beta2": self.beta_2,
                    "epsilon": self.epsilon,
                },
                gradient,
                f"lazy_adam_{id(self)}_{index}",
            )
        # What is written is read again here, which XLA makes one loop of.
        m = where(touched, aged_m + (gradient - aged_m) * (1 - self.beta_1), m)
        square = ops.square(gradient)
        v = where(touched, aged_v + (square - aged_v) * (1 - self.beta_2), v)
        value = where(
            touched,
            aged_value - speed * m / (ops.sqrt(v) + self.epsilon),
            value,
        )
        return value, m, v

    def _held(self, index: int) -> list[Any]:
        """A variable and both its moments, which may be in one slot."""
        lists = trained_by(self), *moments_of(self)
        return [each[index] for each in lists if each[index] is not None]

    def _rows(self, index: int, rows: Any) -> Sequence[Any]:
        value, *moments = super()._rows(index, rows)
        if len(moments) == 1:
            moments = ops.split(moments[0], 2, axis=1)
        return value, *moments

    def _write_rows(self, index: int, rows: Any, values: Sequence[Any]) -> None:
        if len(self._held(index)) == 2:
            value, *moments = values
            values = value, ops.concatenate(moments, axis=1)
        super()._write_rows(index, rows, values)

    def _idle_steps(self, l2: float, last: Any, dtype: Any) -> tuple[Any, ...]:
        """The arguments of `aged` besides rows.

        After the number of steps, how many of them the gradients of L2 are late
        by; and two rates, of the first steps and the mean of all, corrected for
        the bias of the moments.
        """
        idle, first, mean = self._idle(last, dtype)
        before = ops.cast(last, dtype)
        early = before + (1 + ops.minimum(idle, 10.0)) / 2
        present = ops.cast(ops.maximum(self.iterations, 1), dtype)
        # Not in the very first steps, when momentum is of few gradients.
        late = lag(self.beta_1, idle) * (1 - power(self.beta_1, before))
        return (
            (l2, self.beta_1, self.beta_2, self.epsilon),
            idle,
            late,
            first * self._correction(early),
            mean * ops.sqrt(1 - power(self.beta_2, present)),
        )


@keras.saving.register_keras_serializable(package="keras_pep")
class LazyAdam(LazyAdamMixin, AdamL2):  # noqa: D101
    __doc__ = LazyAdamMixin.__doc__

    @property
    def variables(self) -> list[Any]:
        """The same number, order and shapes on every backend.

        Two moments that are in one slot are two here; see `Columns`.
        """
        joined = {
            id(slot): variable
            for slot, other, variable in zip(
                *moments_of(self), trained_by(self), strict=False
            )
            if slot is not None and other is None
        }
        found = []
        for slot in super().variables:
            if (variable := joined.get(id(slot))) is None:
                found.append(slot)
                continue
            width = variable.shape[1]
            for name, start in (("momentum", 0), ("velocity", width)):
                columns = slice(start, start + width)
                name = f"{path_of(variable)}_{name}"
                found.append(variables.Columns(slot, columns, name))
        return found

    def set_weights(self, weights: Any) -> None:
        """Assign the values of `variables`."""
        for variable, value in zip(self.variables, weights, strict=True):
            variable.assign(value)

    def add_variable_from_reference(
        self,
        reference_variable: keras.Variable,
        name: str | None = None,
        initializer: Any = "zeros",
    ) -> keras.Variable | None:
        """Create a slot: for both moments, if they are read row by row.

        A row of both takes less time to read than two rows. So the slot of the
        momentum has the velocity beside it, which has none of its own. If it
        is large, it is made as tables are.
        """
        if not _moments_are_joined(reference_variable):
            return super().add_variable_from_reference(
                reference_variable, name, initializer
            )
        if name == "velocity":
            return None
        rows, columns = reference_variable.shape
        shape = rows, 2 * columns
        return self.add_variable(
            shape,
            initializer=by_blocks(keras.initializers.get(initializer), shape),
            dtype=reference_variable.dtype,
            name=f"{path_of(reference_variable)}_moments",
        )


def _moments_are_joined(variable: keras.Variable) -> bool:
    """Whether both moments of a variable are in one slot, side by side."""
    of_rows = len(variable.shape) == 2 and by_row(variable)
    return is_used("moments") and of_rows
