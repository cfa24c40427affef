"""The optimizers that tables with thresholds need."""

from typing import Any

import keras
from keras import ops

from keras_pep.layers import lookup


@keras.saving.register_keras_serializable(package="keras_pep")
class AdamL2(keras.optimizers.Adam):
    """Adam with L2 regularization inside: `gradient + l2 * variable`.

    This is Adam as PyTorch's `weight_decay` understands it, and what PEP needs.
    The regularization passes through Adam's normalization, so that a threshold
    logit with hardly any gradient from the loss still climbs by one learning
    rate a step, however small `l2` is. AdamW's decoupled `weight_decay`, which
    Keras offers, shrinks it by `learning_rate * weight_decay` of its value:
    thresholds never rise.

    Every trainable variable is regularized and gets a dense update: a step
    costs time in proportion to the table.

    Args:
        learning_rate: Float or learning-rate schedule.
        l2: Float, not negative. Weight of `l2 / 2 * variable**2` in the loss.
        epsilon: Float. As small as PyTorch's: Keras' 1e-7 would hold back
            variables whose gradient is little more than `l2 * variable`.
        **kwargs: Other arguments of `keras.optimizers.Adam`.

    Raises:
        ValueError: If `l2` is negative.

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
        super().__init__(learning_rate, epsilon=epsilon, name=name, **kwargs)
        if not l2 >= 0:
            raise ValueError(f"`l2` must not be negative. Received: l2={l2}")
        self.l2 = float(l2)

    def update_step(
        self, gradient: Any, variable: Any, learning_rate: Any
    ) -> None:
        """Updates a variable by its gradient and its own value."""
        # The sum of the gradients of duplicate ids, where they are sparse.
        gradient = ops.convert_to_tensor(gradient)
        decay = ops.multiply(self._l2_of(variable), variable)
        super().update_step(ops.add(gradient, decay), variable, learning_rate)

    def _l2_of(self, variable: Any) -> float:
        """Weight of the regularization of a variable."""
        del variable
        return self.l2

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "l2": self.l2}


@keras.saving.register_keras_serializable(package="keras_pep")
class LazyAdam(AdamL2):
    """Adam that reads and writes only the rows that a batch has looked up.

    The cost of a step follows the batch, not the table. A row that no example
    of the batch has, or that gets no gradient, is left as it is, and so are
    its moments; the bias correction counts all steps. L2 regularization acts
    on looked-up rows, but not on threshold logits, which would rise with the
    popularity of their row: with this optimizer it is the clock that raises
    thresholds (`keras_pep.search` by budget). Variables that are not looked up
    by row, such as the kernels of dense layers, get the update of `AdamL2`.

    On TensorFlow the gradient says which rows were looked up. On JAX and
    PyTorch it is dense: the result is the same, the cost is not.

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

    def update_step(
        self, gradient: Any, variable: Any, learning_rate: Any
    ) -> None:
        """Updates the looked-up rows, or a variable that has none."""
        index = self._get_variable_index(variable)
        known = self._trainable_variables[index]
        looked_up = _looked_up(gradient, known)
        if looked_up is None:
            super().update_step(gradient, variable, learning_rate)
            return
        rows, gradient = looked_up
        moments = self._momentums[index], self._velocities[index]
        value, m, v = (_read(x, rows) for x in (known, *moments))
        touched = ops.not_equal(gradient, 0)
        if len(known.shape) > 1:
            touched = ops.any(touched, axis=-1, keepdims=True)
        gradient = gradient + self._l2_of(variable) * value
        step = ops.cast(self.iterations + 1, value.dtype)
        rate = ops.cast(learning_rate, value.dtype) * (
            ops.sqrt(1 - ops.power(self.beta_2, step))
            / (1 - ops.power(self.beta_1, step))
        )
        new_m = m + (gradient - m) * (1 - self.beta_1)
        new_v = v + (ops.square(gradient) - v) * (1 - self.beta_2)
        new_value = value - rate * new_m / (ops.sqrt(new_v) + self.epsilon)
        for target, old, new in zip(
            (known, *moments),
            (value, m, v),
            (new_value, new_m, new_v),
            strict=True,
        ):
            _write(target, rows, ops.where(touched, new, old))

    def _l2_of(self, variable: Any) -> float:
        known = self._trainable_variables[self._get_variable_index(variable)]
        return 0.0 if getattr(known, "is_threshold", False) else self.l2


def _looked_up(
    gradient: Any, variable: keras.Variable
) -> tuple[Any, Any] | None:
    """The rows a gradient is for, each once, and their gradient.

    Rows are None if the gradient has all rows, in their order. The whole is
    None if the variable is not looked up by row.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if not isinstance(gradient, tf.IndexedSlices):
            return None
        rows, positions = tf.unique(gradient.indices)
        return rows, tf.math.unsorted_segment_sum(
            gradient.values, positions, tf.shape(rows)[0]
        )
    by_row = getattr(variable, "is_table", variable.name == "embeddings")
    return (None, gradient) if by_row else None


def _read(variable: keras.Variable, rows: Any) -> Any:
    if rows is None:
        return ops.convert_to_tensor(variable)
    return lookup.take(variable, rows)


def _write(variable: keras.Variable, rows: Any, values: Any) -> None:
    if rows is None:
        variable.assign(values)
        return
    import tensorflow as tf

    variable.value.scatter_update(tf.IndexedSlices(values, rows))
