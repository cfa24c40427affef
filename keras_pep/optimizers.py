"""The optimizer that makes thresholds rise."""

from typing import Any

import keras
from keras import ops


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
        decay = ops.multiply(self.l2, variable)
        super().update_step(ops.add(gradient, decay), variable, learning_rate)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "l2": self.l2}
