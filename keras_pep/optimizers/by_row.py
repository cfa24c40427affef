"""Optimizers that read and write only the rows that a batch has looked up."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from keras_pep._keras_compat import (
    are_gone,
    index_of,
    layout_of,
    optimizers_within,
    rate_of,
    trained_by,
)
from keras_pep._tf_kernels import are_distinct, summed
from keras_pep.layers import variables
from keras_pep.optimizers.adam_l2 import L2Mixin
from keras_pep.optimizers.idle_steps import by_xla
from keras_pep.runtime import keras_of


class ByRowMixin(L2Mixin):
    """Base of optimizers that update the rows that a batch has looked up.

    They differ in their rule: the slots that a row has, what idle steps make of
    it, and a step. Variables without rows are updated whole, by the same rule.
    """

    _aged: ClassVar[Callable[..., Sequence[Any]]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        for argument in (
            "amsgrad",
            "global_clipnorm",
            "gradient_accumulation_steps",
            "use_ema",
            "weight_decay",
        ):
            if kwargs.get(argument):
                raise ValueError(
                    f"`{argument}` would read every row in every step: leave "
                    "it out, or use `AdamL2`. "
                    f"Received: {argument}={kwargs[argument]}"
                )
        super().__init__(*args, **kwargs)

    def build(self, variables: list[keras.Variable]) -> None:
        """Create the slots, and for L2 the step each row was last seen."""
        if self.built:
            return
        super().build(variables)
        # Of the type of `iterations`: TensorFlow has no int32 on a GPU.
        integer = keras.backend.standardize_dtype("int")
        self._last_steps = [
            self.add_variable(
                (variable.shape[0], *(1 for _ in variable.shape[1:])),
                dtype=integer,
                name=f"{path_of(variable)}_last_step",
                **layout_of(variable),
            )
            if by_row(variable) and self._l2_of(variable)
            else None
            for variable in variables
        ]
        self._caught_up = self.add_variable(
            (), dtype=integer, name="caught_up_step"
        )

    def update_step(self, gradient: Any, variable: Any, *rate: Any) -> None:
        """Update the looked-up rows, or a variable that has none."""
        index = index_of(self, variable)
        known = trained_by(self)[index]
        rows, gradient, touched = _looked_up(gradient, known)
        held = aged = self._rows(index, rows)
        dtype = held[0].dtype
        if l2 := self._l2_of(known):
            if (last_step := self._last_steps[index]) is not None:
                last = _read(last_step, rows)
                aged = self._aged(held, *self._idle_steps(l2, last, dtype))
                now = ops.cast(self.iterations + 1, last.dtype)
                now = where(touched, ops.zeros_like(last) + now, last)
                _write(last_step, rows, now)
            gradient = gradient + l2 * aged[0]
        (learning_rate,) = rate or (self.learning_rate,)  # tf_keras gives none
        learning_rate = ops.cast(learning_rate, dtype)
        new = self._updated(index, held, aged, gradient, learning_rate, touched)
        self._write_rows(index, rows, new)

    def catch_up(self) -> None:
        """Bring all rows up to date, as if they were looked up now.

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
        """Bring all rows up to date; Keras calls it at the end of `fit`."""
        super().finalize_variable_values(var_list)
        if self.built and not are_gone(self.variables):
            self.catch_up()

    def _catch_up(self, index: int) -> None:
        """Bring the rows of a variable up to date, block by block.

        On JAX all at once, in a loop that XLA makes of it, in the same memory.
        """
        blocks: Iterable[Any] = [None]
        if keras.backend.backend() != "jax":
            slices = variables.row_slices(trained_by(self)[index])
            blocks = (ops.arange(x.start, x.stop) for x in slices)
        for rows in blocks:
            with variables.without_gradients():
                self._write_rows(index, rows, self._up_to_date(index, rows))

    def _up_to_date(self, index: int, rows: Any) -> Sequence[Any]:
        """Rows of a variable and of its slots, after their idle steps."""
        variable = trained_by(self)[index]
        last = _read(self._last_steps[index], rows)
        idle = self._idle_steps(self._l2_of(variable), last, variable.dtype)
        aged = by_xla(self._aged) if rows is None else self._aged
        result: Sequence[Any] = aged(self._rows(index, rows), *idle)
        return result

    def _rows(self, index: int, rows: Any) -> Sequence[Any]:
        """Rows of a variable and of its slots."""
        return [_read(each, rows) for each in self._held(index)]

    def _write_rows(self, index: int, rows: Any, values: Sequence[Any]) -> None:
        for each, value in zip(self._held(index), values, strict=True):
            _write(each, rows, value)

    def _idle(self, last: Any, dtype: Any) -> tuple[Any, Any, Any]:
        """Count the steps since the last update of rows, with their rates.

        Args:
            last: That step, counted from 1; 0 before the first.
            dtype: Of the results: how many steps, `(rows, 1)`; the rate of the
                first of them, and the mean of all.
        """
        now = ops.cast(self.iterations, last.dtype)
        first = mean = ops.cast(self.learning_rate, dtype)
        kind = keras_of(self).optimizers.schedules.LearningRateSchedule
        if isinstance(schedule := rate_of(self), kind):
            # A line between the rates at the last `catch_up` and now.
            begun = ops.cast(self._caught_up, last.dtype)
            rate, end = (ops.cast(schedule(x), dtype) for x in (begun, now))
            slope = (end - rate) / ops.cast(ops.maximum(now - begun, 1), dtype)
            first = rate + slope * ops.cast(last - begun, dtype)
            mean = (first + end - slope) / 2
        return ops.cast(now - last, dtype), first, mean

    def _l2_of(self, variable: Any) -> float:
        return 0.0 if getattr(variable, "is_threshold", False) else self.l2


def parts(optimizer: Any) -> Iterator[Any]:
    """An optimizer and those within it, as a `LossScaleOptimizer` has one.

    Example:

    ```python
    optimizer = keras_pep.optimizers.LazyAdam(1e-3)
    scaled = keras.optimizers.LossScaleOptimizer(optimizer)
    len([*keras_pep.optimizers.parts(scaled)])  # 2
    ```
    """
    yield optimizer
    for each in optimizers_within(optimizer):
        yield from parts(each)


def catch_up(optimizer: Any) -> None:
    """Bring rows up to date, if the optimizer leaves any behind.

    Example:

    ```python
    keras_pep.optimizers.catch_up(model.optimizer)
    ```
    """
    for part in parts(optimizer):
        if isinstance(part, ByRowMixin):
            part.catch_up()


def taken_by(optimizer: Any) -> Callable[[Any, Any], Any]:
    """`take`, or that of the optimizer that updates a variable by row.

    Example:

    ```python
    take = keras_pep.optimizers.taken_by(model.optimizer)
    rows = take(model.embedding.embeddings, np.array([0, 2]))  # (2, 16)
    ```
    """
    lazy = [x for x in parts(optimizer) if isinstance(x, ByRowMixin)]

    def take(variable: keras.Variable, rows: Any) -> Any:
        owner = next((x for x in lazy if x.trains(variable)), variables)
        return owner.take(variable, rows)

    return take


def _looked_up(gradient: Any, variable: keras.Variable) -> tuple[Any, Any, Any]:
    """The rows a gradient is for, each once, and their gradient.

    On TensorFlow: row numbers, gradients, None. Where gradients are dense:
    None, the gradient of all rows, and which of them have one; None for all, on
    TensorFlow, where only what reads whole tables makes them so, and for a
    variable that is not looked up by row.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if isinstance(gradient, tf.IndexedSlices):
            rows, values = gradient.indices, gradient.values
            if not are_distinct(rows):
                rows, positions = tf.unique(rows)
                values = summed(values, positions, tf.shape(rows)[0])
            return rows, values, None
    elif by_row(variable):
        touched = ops.not_equal(gradient, 0)
        if len(variable.shape) > 1:
            touched = ops.any(touched, axis=-1, keepdims=True)
        return None, gradient, touched
    return None, ops.cast(gradient, variable.dtype), None


def where(touched: Any, new: Any, old: Any) -> Any:
    """New values for the touched rows, or for all, if `touched` is None."""
    return new if touched is None else ops.where(touched, new, old)


def by_row(variable: keras.Variable) -> bool:
    """Whether a variable is looked up by row, as far as that can be known."""
    layers_own = path_of(variable).endswith("embeddings")
    return bool(getattr(variable, "is_table", layers_own))


def path_of(variable: Any) -> str:
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
