"""Adam with L2 regularization inside."""

from typing import Any

import keras
from keras import ops

from keras_pep._keras_compat import index_of, moments_of, trained_by
from keras_pep._tf_kernels import adam_of_variables, is_used
from keras_pep.optimizers.idle_steps import power
from keras_pep.runtime import EitherKeras


class L2Mixin(EitherKeras):
    """Base of optimizers with `l2 * variable` added to the gradient."""

    def __init__(
        self, rate: Any, l2: float, epsilon: float, name: str, **kwargs: Any
    ) -> None:
        if kwargs.get("weight_decay"):
            raise ValueError(
                f"`weight_decay` would regularize besides `l2`: use `l2` alone."
                f" Received: weight_decay={kwargs['weight_decay']}, l2={l2}"
            )
        super().__init__(rate, epsilon=epsilon, name=name, **kwargs)
        if not l2 >= 0:
            raise ValueError(f"`l2` must not be negative. Received: l2={l2}")
        self.l2 = float(l2)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "l2": self.l2}


class AdamL2Mixin(L2Mixin):
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

    Example:

    ```python
    model.compile(
        keras_pep.optimizers.AdamL2(1e-3, l2=1e-5),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    ```

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
        super().__init__(learning_rate, l2, epsilon, name, **kwargs)

    def update_step(self, gradient: Any, variable: Any, *rate: Any) -> None:
        """Update a variable by its gradient and its own value."""
        # The sum of the gradients of duplicate ids, where they are sparse.
        gradient = ops.convert_to_tensor(gradient)
        known = trained_by(self)[index_of(self, variable)]
        decay = ops.multiply(self._l2_of(known), variable)
        gradient = ops.add(gradient, decay)
        if not self._is_updated_at_once(gradient, variable, *rate):
            super().update_step(gradient, variable, *rate)

    def _is_updated_at_once(
        self, gradient: Any, variable: Any, rate: Any = None
    ) -> bool:
        """Update a variable by one kernel, if there is one for it."""
        if rate is None or self.amsgrad or not is_used("adam"):
            return False  # tf_keras passes no rate
        index, dtype = index_of(self, variable), variable.dtype
        m, v = (moments[index].value for moments in moments_of(self))
        step = ops.cast(self.iterations + 1, dtype)
        numbers = {
            "lr": ops.cast(rate, dtype) * self._correction(step),
            "beta1": self.beta_1,
            "beta2": self.beta_2,
            "epsilon": self.epsilon,
        }
        held = {"var": variable, "m": m, "v": v}
        return adam_of_variables(held, numbers, ops.cast(gradient, dtype))

    def _correction(self, step: Any) -> Any:
        """Adam's correction of the bias of both moments, at a step from 1."""
        return ops.sqrt(1 - power(self.beta_2, step)) / (
            1 - power(self.beta_1, step)
        )

    def _l2_of(self, variable: Any) -> float:
        """Weight of the regularization of a variable of a layer."""
        return self.l2 if getattr(variable, "is_pulled", True) else 0.0


@keras.saving.register_keras_serializable(package="keras_pep")
class AdamL2(AdamL2Mixin, keras.optimizers.Adam):  # noqa: D101
    __doc__ = AdamL2Mixin.__doc__
