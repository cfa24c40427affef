"""Cross network beside a multi-layer perceptron."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_pep.models.base import FieldModel, FieldModelMixin
from keras_pep.runtime import keras_of, layers_of


class DCNMixin(FieldModelMixin):
    """Cross network and perceptron over one embedding table: DCN-V2.

    ```
    x_0 = [v_1, ..., v_m]
    x_{l+1} = x_0 * (W_l x_l + b_l) + x_l
    logit = <w, x_L> + b + MLP(x_0)
    ```

    The two are parallel. Each matrix has `(fields * embedding_dim) ** 2`
    entries, which no budget counts.

    Args:
        *args: Those of `FieldModel`.
        num_cross_layers: Number of cross layers.
        hidden_units: Units of the perceptron's hidden layers.
        dropout: Share of its hidden units that is dropped in training.
        **kwargs: Those of `FieldModel`.

    Example:

    ```python
    model = keras_pep.models.DCN(
        field_sizes=[6040, 3706], embedding_dim=16, num_cross_layers=2
    )
    model.compile(
        keras_pep.optimizers.AdamL2(1e-3),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    ```

    Reference:
        - [Wang et al., 2021](https://arxiv.org/abs/2008.13535)
    """

    def __init__(
        self,
        *args: Any,
        num_cross_layers: int = 3,
        hidden_units: Sequence[int] = (100, 100),
        dropout: float = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        layers, ours = keras_of(self).layers, layers_of(self)
        dtype = self.dtype_policy
        width = len(self.field_sizes) * self.embedding_dim
        self.flatten = layers.Flatten(name="flatten", dtype=dtype)
        self.crosses = [
            ours.CrossLayer(width, name=f"cross_{number}", dtype=dtype)
            for number in range(num_cross_layers)
        ]
        self.head = layers.Dense(1, name="head", dtype=dtype)
        self.deep = ours.MLP(hidden_units, dropout, name="deep", dtype=dtype)

    def logits(self, rows: Any, shares: Any, training: bool | None) -> Any:
        """Logits of the cross network, plus the perceptron's."""
        vectors = self.vectors(rows, shares)
        first = hidden = self.flatten(vectors)
        for cross in self.crosses:
            hidden = cross(hidden, first)
        return self.head(hidden) + self.deep(vectors, training=training)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_cross_layers": len(self.crosses),
            "hidden_units": list(self.deep.units),
            "dropout": self.deep.dropout,
        }


@keras.saving.register_keras_serializable(package="keras_pep")
class DCN(DCNMixin, FieldModel):  # noqa: D101
    __doc__ = DCNMixin.__doc__
