"""Logistic regression."""

from typing import Any

import keras
from keras import ops

from keras_pep.models.base import FieldModel, FieldModelMixin


class LogisticRegressionMixin(FieldModelMixin):
    """Logistic regression: one weight per feature, and a bias.

    ```
    logit = b + sum_i w_i
    ```

    The weights are an embedding table with one column, so that pruning it is
    feature selection. Arguments, input and output are those of `FieldModel`,
    with an `embedding_dim` of 1 and nothing else.

    Example:

    ```python
    model = keras_pep.models.LogisticRegression([6040, 3706])
    model(np.array([[12, 7]]))  # (1, 1)
    ```
    """

    def __init__(
        self,
        field_sizes: Any,
        embedding_dim: int = 1,
        embedding: Any = "pep",
        **kwargs: Any,
    ) -> None:
        if embedding_dim != 1:
            raise ValueError(
                "Logistic regression has one weight per feature: "
                "`embedding_dim` must be 1. "
                f"Received: embedding_dim={embedding_dim}"
            )
        super().__init__(field_sizes, embedding_dim, embedding, **kwargs)
        self.bias = self.add_weight(
            name="bias", shape=(1,), initializer="zeros", autocast=False
        )

    def logits(self, rows: Any, shares: Any, training: bool | None) -> Any:
        """Sum of weights and bias."""
        weights = self.vectors(rows, shares)
        logits = ops.sum(weights, axis=1)
        return logits + ops.cast(self.bias, logits.dtype)


@keras.saving.register_keras_serializable(package="keras_pep")
class LogisticRegression(LogisticRegressionMixin, FieldModel):  # noqa: D101
    __doc__ = LogisticRegressionMixin.__doc__
