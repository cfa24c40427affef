"""Adam that reads and writes only the rows that a batch has looked up."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from keras_pep._keras_compat import (
    are_gone,
    index_of,
    layout_of,
    moments_of,
    optimizers_within,
    rate_of,
    trained_by,
)
from keras_pep._tf_kernels import (
    adam,
    are_distinct,
    is_used,
    on_cpu,
    summed,
)
from keras_pep.layers import variables
from keras_pep.layers.initial import by_blocks
from keras_pep.optimizers.adam_l2 import AdamL2, AdamL2Mixin
from keras_pep.optimizers.idle_steps import (
    Numbers,
    aged,
    aged_by_xla,
    lag,
    power,
)
from keras_pep.runtime import keras_of


class LazyAdamMixin(AdamL2Mixin):
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
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        l2: float = 0.0,
        epsilon: float = 1e-8,
        name: str = "lazy_adam",
        **kwargs: Any,
    ) -> None:
        for argument in (
            "amsgrad",
            "global_clipnorm",
            "gradient_accumulation_steps",
            "use_ema",
            "weight_decay",
        ):
            if kwargs.get(argument):
                raise ValueError(
                    f"`{argument}` reads every row in every step. "
                    f"Received: {argument}={kwargs[argument]}"
                )
        super().__init__(learning_rate, l2, epsilon, name, **kwargs)

    def build(self, variables: list[keras.Variable]) -> None:
        """Creates the moments, and for L2 the step each row was last seen."""
        if self.built:
            return
        super().build(variables)
        # Of the type of `iterations`: TensorFlow has no int32 on a GPU.
        integer = keras.backend.standardize_dtype("int")
        self._last_steps = [
            self.add_variable(
                (variable.shape[0], *(1 for _ in variable.shape[1:])),
                dtype=integer,
                name=f"{_path(variable)}_last_step",
                **layout_of(variable),
            )
            if _by_row(variable) and self._l2_of(variable)
            else None
            for variable in variables
        ]
        self._caught_up = self.add_variable(
            (), dtype=integer, name="caught_up_step"
        )

    def update_step(self, gradient: Any, variable: Any, *rate: Any) -> None:
        """Updates the looked-up rows, or a variable that has none."""
        index = index_of(self, variable)
        known = trained_by(self)[index]
        looked_up = _looked_up(gradient, known)
        if looked_up is None:
            super().update_step(gradient, variable, *rate)
            return
        rows, gradient, touched = looked_up
        value, m, v = self._rows(index, rows)
        step = ops.cast(self.iterations + 1, value.dtype)
        (learning_rate,) = rate or (self.learning_rate,)  # tf_keras gives none
        speed = ops.cast(learning_rate, value.dtype) * self._correction(step)

        def of_touched(new: Any, old: Any) -> Any:
            return new if touched is None else ops.where(touched, new, old)

        aged_value, aged_m, aged_v = value, m, v
        if l2 := self._l2_of(known):
            if (last_step := self._last_steps[index]) is not None:
                last = _read(last_step, rows)
                aged_value, aged_m, aged_v = aged(
                    *(value, m, v),
                    self._numbers(l2),
                    *self._idle(last, value.dtype),
                )
                now = ops.cast(self.iterations + 1, last.dtype)
                now = of_touched(ops.zeros_like(last) + now, last)
                _write(last_step, rows, now)
            gradient = gradient + l2 * aged_value
        if touched is None and is_used("adam") and on_cpu():
            value, m, v = adam(
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
        else:
            # What is written is read again here, which XLA makes one loop of.
            m = of_touched(aged_m + (gradient - aged_m) * (1 - self.beta_1), m)
            v = of_touched(
                aged_v + (ops.square(gradient) - aged_v) * (1 - self.beta_2), v
            )
            value = of_touched(
                aged_value - speed * m / (ops.sqrt(v) + self.epsilon), value
            )
        self._write_moments(index, rows, m, v)
        _write(known, rows, value)

    def catch_up(self) -> None:
        """Brings all rows up to date, as if they were looked up now.

        It makes up for the steps in which L2 has not acted on rows because no
        batch had them. Training goes on afterwards as it would have without.
        It reads and writes tables and moments once, in blocks of rows; if no
        step was taken since the last time, it does nothing.
        """
        if not self.built:
            return
        now = int(ops.convert_to_numpy(self.iterations))
        if now == int(ops.convert_to_numpy(self._caught_up)):
            return
        for index, last_step in enumerate(self._last_steps):
            if last_step is not None:
                self._catch_up(index)
                variables.fill(last_step, now)
        self._caught_up.assign(now)

    def take(self, variable: keras.Variable, rows: Any) -> Any:
        """Rows of a variable as `catch_up` would leave them; writes nothing.

        Args:
            variable: Trained by this optimizer or not.
            rows: Integer tensor of row numbers, `(rows,)`.
        """
        if self.trains(variable):
            index = index_of(self, variable)
            if self._last_steps[index] is not None:
                return self._up_to_date(index, rows)[0]
        return variables.take(variable, rows)

    def trains(self, variable: keras.Variable) -> bool:
        """Whether a variable is one of this optimizer."""
        known = trained_by(self) if self.built else ()
        return any(each is variable for each in known)

    def finalize_variable_values(self, var_list: list[keras.Variable]) -> None:
        """Brings all rows up to date; Keras calls it at the end of `fit`."""
        super().finalize_variable_values(var_list)
        if self.built and not are_gone(self.variables):
            self.catch_up()

    def _catch_up(self, index: int) -> None:
        """Brings the rows of a variable up to date."""
        if keras.backend.backend() == "jax":
            self._catch_up_at_once(index)
            return
        variable = trained_by(self)[index]
        for block in variables.row_slices(variable):
            rows = ops.arange(block.start, block.stop)
            with variables.without_gradients():
                value, m, v = self._up_to_date(index, rows)
                self._write_moments(index, rows, m, v)
                _write(variable, rows, value)

    def _up_to_date(self, index: int, rows: Any) -> tuple[Any, Any, Any]:
        """Rows of a variable and their moments, after their idle steps."""
        variable = trained_by(self)[index]
        value, m, v = self._rows(index, rows)
        last = _read(self._last_steps[index], rows)
        idle = self._idle(last, value.dtype)
        numbers = self._numbers(self._l2_of(variable))
        return aged(value, m, v, numbers, *idle)

    def _catch_up_at_once(self, index: int) -> None:
        """Does it in one loop, which XLA makes of it, in the same memory."""
        variable = trained_by(self)[index]
        held = variable, *(slots[index] for slots in moments_of(self))
        last = _read(self._last_steps[index], None)
        results = aged_by_xla()(
            *(each.value for each in held),
            self._numbers(self._l2_of(variable)),
            *self._idle(last, variable.dtype),
        )
        for each, result in zip(held, results, strict=True):
            each.assign(result)

    def _rows(self, index: int, rows: Any) -> tuple[Any, Any, Any]:
        """Rows of a variable and both their moments.

        These may be in one slot, side by side.
        """
        value = _read(trained_by(self)[index], rows)
        first, second = (slots[index] for slots in moments_of(self))
        momentum = _read(first, rows)
        if second is None:
            return value, *ops.split(momentum, 2, axis=1)
        return value, momentum, _read(second, rows)

    def _write_moments(self, index: int, rows: Any, m: Any, v: Any) -> None:
        first, second = (slots[index] for slots in moments_of(self))
        if second is None:
            m = ops.concatenate([m, v], axis=1)
        else:
            _write(second, rows, v)
        _write(first, rows, m)

    def _numbers(self, l2: float) -> Numbers:
        return Numbers(l2, self.beta_1, self.beta_2, self.epsilon)

    def _correction(self, step: Any) -> Any:
        """Adam's correction of the bias of both moments, at a step from 1."""
        return ops.sqrt(1 - power(self.beta_2, step)) / (
            1 - power(self.beta_1, step)
        )

    def _idle(self, last: Any, dtype: Any) -> tuple[Any, Any, Any, Any]:
        """Count the steps since the last update of rows, with their rates.

        Args:
            last: That step, counted from 1; 0 before the first.
            dtype: Of the results.

        Returns:
            How many steps, `(rows, 1)`; how many of them the gradients of L2
            are late by; and two rates, of the first steps and the mean of all,
            corrected for the bias of the moments.
        """
        now = ops.cast(self.iterations, last.dtype)
        idle, before = ops.cast(now - last, dtype), ops.cast(last, dtype)
        first = mean = ops.cast(self.learning_rate, dtype)
        schedule = self._schedule()
        if schedule is not None:
            # A line between the rates at the last `catch_up` and now.
            begun = ops.cast(self._caught_up, last.dtype)
            rate, end = (ops.cast(schedule(x), dtype) for x in (begun, now))
            slope = (end - rate) / ops.cast(ops.maximum(now - begun, 1), dtype)
            first = rate + slope * ops.cast(last - begun, dtype)
            mean = (first + end - slope) / 2
        early = before + (1 + ops.minimum(idle, 10.0)) / 2
        present = ops.cast(ops.maximum(now, 1), dtype)
        # Not in the very first steps, when momentum is of few gradients.
        late = lag(self.beta_1, idle) * (1 - power(self.beta_1, before))
        return (
            idle,
            late,
            first * self._correction(early),
            mean * ops.sqrt(1 - power(self.beta_2, present)),
        )

    def _schedule(self) -> Any:
        """The schedule of the learning rate, None if it has none."""
        kind = keras_of(self).optimizers.schedules.LearningRateSchedule
        rate = rate_of(self)
        return rate if isinstance(rate, kind) else None

    def _l2_of(self, variable: Any) -> float:
        return 0.0 if getattr(variable, "is_threshold", False) else self.l2


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
                name = f"{_path(variable)}_{name}"
                found.append(variables.Columns(slot, columns, name))
        return found

    def set_weights(self, weights: Any) -> None:
        """Assigns the values of `variables`."""
        for variable, value in zip(self.variables, weights, strict=True):
            variable.assign(value)

    def add_variable_from_reference(
        self,
        reference_variable: keras.Variable,
        name: str | None = None,
        initializer: Any = "zeros",
    ) -> keras.Variable | None:
        """Creates a slot: for both moments, if they are read row by row.

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
            name=f"{_path(reference_variable)}_moments",
        )


def parts(optimizer: Any) -> Iterator[Any]:
    """An optimizer and those within it, as a `LossScaleOptimizer` has one."""
    yield optimizer
    for each in optimizers_within(optimizer):
        yield from parts(each)


def catch_up(optimizer: Any) -> None:
    """Brings rows up to date, if the optimizer is a `LazyAdam` or has one."""
    for part in parts(optimizer):
        if isinstance(part, LazyAdamMixin):
            part.catch_up()


def taken_by(optimizer: Any) -> Callable[[Any, Any], Any]:
    """`take`, or `LazyAdam.take` for the variables of a `LazyAdam`."""
    lazy = [x for x in parts(optimizer) if isinstance(x, LazyAdamMixin)]

    def take(variable: keras.Variable, rows: Any) -> Any:
        owner = next((x for x in lazy if x.trains(variable)), variables)
        return owner.take(variable, rows)

    return take


def _looked_up(
    gradient: Any, variable: keras.Variable
) -> tuple[Any, Any, Any] | None:
    """The rows a gradient is for, each once, and their gradient.

    On TensorFlow: row numbers, gradients, None. Where gradients are dense:
    None, the gradient of all rows, and which of them have one; on TensorFlow,
    where only what reads whole tables makes them so, None for all. The whole
    is None if the variable is not looked up by row.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if not isinstance(gradient, tf.IndexedSlices):
            return (None, gradient, None) if _by_row(variable) else None
        rows, values = gradient.indices, gradient.values
        if not are_distinct(rows):
            rows, positions = tf.unique(rows)
            values = summed(values, positions, tf.shape(rows)[0])
        return rows, values, None
    if not _by_row(variable):
        return None
    touched = ops.not_equal(gradient, 0)
    if len(variable.shape) > 1:
        touched = ops.any(touched, axis=-1, keepdims=True)
    return None, gradient, touched


def _by_row(variable: keras.Variable) -> bool:
    """Whether a variable is looked up by row, as far as that can be known."""
    layers_own = _path(variable).endswith("embeddings")
    return bool(getattr(variable, "is_table", layers_own))


def _moments_are_joined(variable: keras.Variable) -> bool:
    """Whether both moments of a variable are in one slot, side by side."""
    of_rows = len(variable.shape) == 2 and _by_row(variable)
    return is_used("moments") and of_rows


def _path(variable: Any) -> str:
    """A variable's name and those of its layers, `_` between them."""
    path: str = getattr(variable, "path", variable.name)
    return path.partition(":")[0].replace("/", "_")


def _read(variable: keras.Variable, rows: Any) -> Any:
    if rows is None:
        return ops.convert_to_tensor(variable)
    return variables.take(variable, rows)


def _write(variable: keras.Variable, rows: Any, values: Any) -> None:
    if rows is None:
        variable.assign(values)
    else:
        variables.update(variable, rows, values)
