"""The optimizers that tables with thresholds need."""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from keras_pep.layers import lookup
from keras_pep.layers.initial import by_blocks
from keras_pep.runtime import EitherKeras, keras_of

_LONGEST_PULL = 10.0


class AdamL2Mixin(EitherKeras):
    """Adam with L2 regularization inside: `gradient + l2 * variable`.

    This is Adam as PyTorch's `weight_decay` understands it, and what PEP needs.
    The regularization passes through Adam's normalization, so that a threshold
    logit with hardly any gradient from the loss still climbs by one learning
    rate a step, however small `l2` is. AdamW's decoupled `weight_decay`, which
    Keras offers, shrinks it by `learning_rate * weight_decay` of its value:
    thresholds never rise.

    Every trainable variable is regularized, but for threshold logits that a
    search by budget has taken over, whose clock raises them instead, and gets a
    dense update: a step costs time in proportion to the table.

    Args:
        learning_rate: Float or learning-rate schedule.
        l2: Float, not negative. Weight of `l2 / 2 * variable**2` in the loss.
        epsilon: Float. As small as PyTorch's: Keras' 1e-7 would hold back
            variables whose gradient is little more than `l2 * variable`.
        **kwargs: Other arguments of `keras.optimizers.Adam`, except
            `weight_decay`: one regularization is enough.

    Raises:
        ValueError: If `l2` is negative, or `weight_decay` is given.

    Reference:
        - [Loshchilov & Hutter, 2019](https://arxiv.org/abs/1711.05101), on
          the difference between the two
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        l2: float = 1e-5,
        epsilon: float = 1e-8,
        name: str = "adam_l2",
        **kwargs: Any,
    ) -> None:
        if kwargs.get("weight_decay"):
            raise ValueError(
                f"`weight_decay` would regularize besides `l2`: use `l2` alone."
                f" Received: weight_decay={kwargs['weight_decay']}, l2={l2}"
            )
        super().__init__(learning_rate, epsilon=epsilon, name=name, **kwargs)
        if not l2 >= 0:
            raise ValueError(f"`l2` must not be negative. Received: l2={l2}")
        self.l2 = float(l2)

    def update_step(self, gradient: Any, variable: Any, *rate: Any) -> None:
        """Updates a variable by its gradient and its own value."""
        # The sum of the gradients of duplicate ids, where they are sparse.
        gradient = ops.convert_to_tensor(gradient)
        decay = ops.multiply(self._l2_of(variable), variable)
        super().update_step(ops.add(gradient, decay), variable, *rate)

    def _l2_of(self, variable: Any) -> float:
        """Weight of the regularization of a variable."""
        known = self._trainable_variables[self._get_variable_index(variable)]
        return self.l2 if getattr(known, "is_pulled", True) else 0.0

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "l2": self.l2}


class LazyAdamMixin(AdamL2Mixin):
    """Adam that reads and writes only the rows that a batch has looked up.

    The cost of a step follows the batch, not the table. A row that no example
    of the batch has is left as it is, and so are its moments; the bias
    correction counts all steps.

    With L2 regularization `AdamL2` also moves the rows that are not looked
    up: momentum runs out, and L2 pulls them to zero. This optimizer makes up
    for it, by a closed form of these idle steps (see `_aged`), before the next
    update of a row, and for all rows in `catch_up`. In between, rarely seen
    rows are larger than `AdamL2` would have them: call `catch_up` before you
    count, save, export or evaluate. Keras calls it at the end of `fit`;
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
                **_layout(variable),
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
        index = self._get_variable_index(variable)
        known = self._trainable_variables[index]
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
        if l2 := self._l2_of(variable):
            if (last_step := self._last_steps[index]) is not None:
                last = _read(last_step, rows)
                aged_value, aged_m, aged_v = self._aged(
                    *(value, m, v), l2, *self._idle(last, value.dtype)
                )
                now = ops.cast(self.iterations + 1, last.dtype)
                now = of_touched(ops.zeros_like(last) + now, last)
                _write(last_step, rows, now)
            gradient = gradient + l2 * aged_value
        if touched is None and lookup.on_cpu():
            value, m, v = _adam_kernel(
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
                lookup.fill(last_step, now)
        self._caught_up.assign(now)

    def take(self, variable: keras.Variable, rows: Any) -> Any:
        """Rows of a variable as `catch_up` would leave them; writes nothing.

        Args:
            variable: Trained by this optimizer or not.
            rows: Integer tensor of row numbers, `(rows,)`.
        """
        if self.trains(variable):
            index = self._get_variable_index(variable)
            if self._last_steps[index] is not None:
                return self._up_to_date(index, rows)[0]
        return lookup.take(variable, rows)

    def trains(self, variable: keras.Variable) -> bool:
        """Whether a variable is one of this optimizer."""
        known = self._trainable_variables if self.built else ()
        return any(each is variable for each in known)

    def finalize_variable_values(self, var_list: list[keras.Variable]) -> None:
        """Brings all rows up to date; Keras calls it at the end of `fit`."""
        super().finalize_variable_values(var_list)
        if self.built and not _are_gone(self.variables):
            self.catch_up()

    def _catch_up(self, index: int) -> None:
        """Brings the rows of a variable up to date."""
        if keras.backend.backend() == "jax":
            self._catch_up_at_once(index)
            return
        variable = self._trainable_variables[index]
        for block in lookup.row_slices(variable):
            rows = ops.arange(block.start, block.stop)
            with lookup.without_gradients():
                value, m, v = self._up_to_date(index, rows)
                self._write_moments(index, rows, m, v)
                _write(variable, rows, value)

    def _up_to_date(self, index: int, rows: Any) -> tuple[Any, Any, Any]:
        """Rows of a variable and their moments, after their idle steps."""
        variable = self._trainable_variables[index]
        value, m, v = self._rows(index, rows)
        last = _read(self._last_steps[index], rows)
        idle = self._idle(last, value.dtype)
        return self._aged(value, m, v, self._l2_of(variable), *idle)

    def _catch_up_at_once(self, index: int) -> None:
        """Does it in one loop, which XLA makes of it, in the same memory."""
        variable = self._trainable_variables[index]
        held = variable, self._momentums[index], self._velocities[index]
        last = _read(self._last_steps[index], None)
        aged = _aged_by_xla(self.beta_1, self.beta_2, self.epsilon)
        idle = self._idle(last, variable.dtype)
        results = aged(
            *(each.value for each in held), self._l2_of(variable), *idle
        )
        for each, result in zip(held, results, strict=True):
            each.assign(result)

    def _rows(self, index: int, rows: Any) -> tuple[Any, Any, Any]:
        """Rows of a variable and both their moments.

        These may be in one slot, side by side.
        """
        value = _read(self._trainable_variables[index], rows)
        momentum = _read(self._momentums[index], rows)
        if self._velocities[index] is None:
            return value, *ops.split(momentum, 2, axis=1)
        return value, momentum, _read(self._velocities[index], rows)

    def _write_moments(self, index: int, rows: Any, m: Any, v: Any) -> None:
        if self._velocities[index] is None:
            m = ops.concatenate([m, v], axis=1)
        else:
            _write(self._velocities[index], rows, v)
        _write(self._momentums[index], rows, m)

    def _correction(self, step: Any) -> Any:
        """Adam's correction of the bias of both moments, at a step from 1."""
        return ops.sqrt(1 - _power(self.beta_2, step)) / (
            1 - _power(self.beta_1, step)
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
        late = self._lag(idle) * (1 - _power(self.beta_1, before))
        return (
            idle,
            late,
            first * self._correction(early),
            mean * ops.sqrt(1 - _power(self.beta_2, present)),
        )

    def _lag(self, steps: Any) -> Any:
        """`b1 + b1**2 + ...`, of that many terms."""
        missing = 1 - _power(self.beta_1, steps)
        return self.beta_1 / (1 - self.beta_1) * missing

    def _schedule(self) -> Any:
        """The schedule of the learning rate, None if it has none."""
        kind = keras_of(self).optimizers.schedules.LearningRateSchedule
        rate = self._learning_rate
        return rate if isinstance(rate, kind) else None

    def _aged(
        self,
        value: Any,
        m: Any,
        v: Any,
        l2: float,
        idle: Any,
        late: Any,
        first_rate: Any,
        rate: Any,
    ) -> tuple[Any, Any, Any]:
        """Rows and moments after `idle` steps of no gradient but L2's.

        In closed form, and so not exactly. With `b1`, `b2` and `k` idle steps:

        1. Momentum runs out: `w -= first_rate * n * m / r`, where `r = sqrt(v)`
           and `n = b1 + ... + b1**k`.
        2. L2 alone would make of `r` in the end `r' = sqrt(v * b2**k + u)`,
           `u = (l2 * w)**2 * (1 - b2**k)`. It pulls by `p = rate * l2 * (k -
           late) / s`; `1 / s` is the mean of `1 / r` over a geometric series
           from `r`, or `r'` if that is larger, to `r'`, by a rule like
           Simpson's.
        3. The value becomes `w * f**2`, `f = exp(-p / 2)`. But where L2 makes
           up most of `v`, `r' > r`, it normalizes itself, and the value falls
           nearly in a line: `f = 1 - p / 2`.
        4. Of the moments remain `v * b2**k + u * f` and `m * b1**k + l2 * w *
           (1 - b1**k)`.

        `idle` is `k`; that and `late`, `first_rate` and `rate` see `_idle`.
        """
        beta_1, beta_2 = (
            _power(beta, idle) for beta in (self.beta_1, self.beta_2)
        )
        root = ops.sqrt(v) + self.epsilon
        value = value - (first_rate * self._lag(idle)) * m / root
        faded, of_l2 = v * beta_2, ops.square(l2 * value) * (1 - beta_2)
        end = ops.sqrt(faded + of_l2) + self.epsilon
        start = ops.maximum(root, end)
        ratio = start / end
        pull = (rate * (l2 / 12) * (idle - late)) * (
            (4 * ops.sqrt(ratio) + ratio + 1) / start
        )
        # To exactly zero would be too far: see `soft_threshold`.
        left = ops.where(
            root < end,
            ops.maximum(1 - pull, math.exp(-_LONGEST_PULL / 2)),
            ops.exp(-ops.minimum(pull, _LONGEST_PULL / 2)),
        )
        value = value * ops.square(left)
        m = m * beta_1 + (l2 * (1 - beta_1)) * value
        return value, m, faded + of_l2 * left

    def _l2_of(self, variable: Any) -> float:
        known = self._trainable_variables[self._get_variable_index(variable)]
        return 0.0 if getattr(known, "is_threshold", False) else self.l2


@keras.saving.register_keras_serializable(package="keras_pep")
class AdamL2(AdamL2Mixin, keras.optimizers.Adam):  # noqa: D101
    __doc__ = AdamL2Mixin.__doc__


@keras.saving.register_keras_serializable(package="keras_pep")
class LazyAdam(LazyAdamMixin, AdamL2):  # noqa: D101
    __doc__ = LazyAdamMixin.__doc__

    @property
    def variables(self) -> list[Any]:
        """The same number, order and shapes on every backend.

        Two moments that are in one slot are two here; see `lookup.Columns`.
        """
        joined = {
            id(slot): variable
            for slot, other, variable in zip(
                getattr(self, "_momentums", ()),
                getattr(self, "_velocities", ()),
                self._trainable_variables,
                strict=False,
            )
            if slot is not None and other is None
        }
        found = []
        for slot in self._variables:
            if (variable := joined.get(id(slot))) is None:
                found.append(slot)
                continue
            width = variable.shape[1]
            for name, start in (("momentum", 0), ("velocity", width)):
                columns = slice(start, start + width)
                name = f"{_path(variable)}_{name}"
                found.append(lookup.Columns(slot, columns, name))
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
    inner = getattr(optimizer, "inner_optimizer", None)
    several = getattr(optimizer, "_inner_optimizers", ())
    for each in (*([] if inner is None else [inner]), *several):
        yield from parts(each)


def catch_up(optimizer: Any) -> None:
    """Brings rows up to date, if the optimizer is a `LazyAdam` or has one."""
    for part in parts(optimizer):
        if isinstance(part, LazyAdamMixin):
            part.catch_up()


def taken_by(optimizer: Any) -> Callable[[Any, Any], Any]:
    """`lookup.take`, or `LazyAdam.take` for the variables of a `LazyAdam`."""
    lazy = [x for x in parts(optimizer) if isinstance(x, LazyAdamMixin)]

    def take(variable: keras.Variable, rows: Any) -> Any:
        owner = next((x for x in lazy if x.trains(variable)), lookup)
        return owner.take(variable, rows)

    return take


@functools.cache
def _aged_by_xla(beta_1: float, beta_2: float, epsilon: float) -> Any:
    """`LazyAdam._aged`, compiled once for all optimizers of these numbers."""
    import jax

    alike = LazyAdam(beta_1=beta_1, beta_2=beta_2, epsilon=epsilon)
    return jax.jit(alike._aged, static_argnums=3, donate_argnums=(0, 1, 2))


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
        if not _are_distinct(rows):
            rows, positions = tf.unique(rows)
            values = lookup.summed(values, positions, tf.shape(rows)[0])
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
    on_tensorflow = keras.backend.backend() == "tensorflow"
    return on_tensorflow and len(variable.shape) == 2 and _by_row(variable)


def _layout(variable: Any) -> dict[str, Any]:
    """How a variable's rows are divided among devices, if they are."""
    layout = getattr(variable, "_layout", None)  # as Keras does for slots
    return {} if layout is None else {"layout": layout}


def _path(variable: Any) -> str:
    """A variable's name and those of its layers, `_` between them."""
    path: str = getattr(variable, "path", variable.name)
    return path.partition(":")[0].replace("/", "_")


def _are_distinct(rows: Any) -> bool:
    """Whether the graph that is being traced shows that no row comes twice.

    It does if they are the output of `tf.unique`, as with our layers. If a
    layer is called twice, rows are a concatenation, and nothing is shown.
    """
    import tensorflow as tf

    if tf.executing_eagerly():
        return False
    while rows.op.type in ("Reshape", "Identity", "Cast"):
        rows = rows.op.inputs[0]
    return bool(rows.op.type == "Unique" and rows.value_index == 0)


def _adam_kernel(
    rows: dict[str, Any], numbers: dict[str, Any], gradient: Any, name: str
) -> list[Any]:
    """Rows after a step of Adam, by the kernel that TensorFlow has for it.

    It is faster than the dozen operations that Adam is made of. What it
    changes are variables: the rows become some for as long as it runs.

    Args:
        rows: `var`, `m` and `v`, tensors of one shape.
        numbers: `lr`, corrected for the bias, `beta1`, `beta2` and `epsilon`.
        gradient: Of `var`.
        name: No other variable's.
    """
    import tensorflow as tf

    dtype = gradient.dtype
    handles = {
        kind: tf.raw_ops.VarHandleOp(
            dtype=dtype, shape=None, shared_name=f"{name}_{kind}"
        )
        for kind in rows
    }
    for kind, handle in handles.items():
        tf.raw_ops.AssignVariableOp(resource=handle, value=rows[kind])
    tf.raw_ops.ResourceApplyAdam(
        **handles,
        **{kind: tf.cast(number, dtype) for kind, number in numbers.items()},
        beta1_power=tf.zeros((), dtype),
        beta2_power=tf.zeros((), dtype),
        grad=gradient,
    )
    results = []
    for handle in handles.values():
        results.append(tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype))
        tf.raw_ops.DestroyResourceOp(resource=handle)
    return results


def _are_gone(variables: list[Any]) -> bool:
    """Whether an interrupted step has taken their values along, on JAX."""
    if keras.backend.backend() != "jax":
        return False
    values = [variable._value for variable in variables]
    return any(value is None or value.is_deleted() for value in values)


def _power(beta: float, steps: Any) -> Any:
    """`beta**steps`; of many steps in less time than `ops.power` takes."""
    if beta > 0:
        return ops.exp(steps * math.log(beta))
    return ops.power(beta, steps)


def _read(variable: keras.Variable, rows: Any) -> Any:
    if rows is None:
        return ops.convert_to_tensor(variable)
    return lookup.take(variable, rows)


def _write(variable: keras.Variable, rows: Any, values: Any) -> None:
    if rows is None:
        variable.assign(values)
    else:
        lookup.update(variable, rows, values)
