"""Factorization machine beside a multi-layer perceptron."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_pep.models.fm import FM, FMMixin
from keras_pep.runtime import layers_of


class DeepFMMixin(FMMixin):
    """Factorization machine and perceptron over one embedding table.

    ```
    logit = b + sum_i w_i + sum_{i<j} <v_i, v_j> + MLP([v_1, ..., v_m])
    ```

    Args:
        *args: Those of `FieldModel`.
        hidden_units: Units of the perceptron's hidden layers. The PEP authors
            take 100, 100 for MovieLens and 400, 400, 400 for Criteo and Avazu.
        dropout: Share of hidden units that is dropped in training.
        **kwargs: Those of `FieldModel`.

    Example:

    ```python
    model = keras_pep.models.DeepFM([6040, 3706], embedding_dim=16)
    model(np.array([[12, 7]]))  # (1, 1)
    ```

    Reference:
        - [Guo et al., 2017](https://arxiv.org/abs/1703.04247)
    """

    def __init__(
        self,
        *args: Any,
        hidden_units: Sequence[int] = (100, 100),
        dropout: float = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.deep = layers_of(self).MLP(
            hidden_units, dropout, name="deep", dtype=self.dtype_policy
        )

    def logits(self, rows: Any, shares: Any, training: bool | None) -> Any:
        """Logits of the factorization machine, plus the perceptron's."""
        vectors = self.vectors(rows, shares)
        return (
            self.first_order(rows, shares)
            + self.interaction(vectors)
            + self.deep(vectors, training=training)
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "hidden_units": list(self.deep.units),
            "dropout": self.deep.dropout,
        }


@keras.saving.register_keras_serializable(package="keras_pep")
class DeepFM(DeepFMMixin, FM):  # noqa: D101
    __doc__ = DeepFMMixin.__doc__
