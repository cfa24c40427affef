"""Self-attention over fields."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_pep.models.base import FieldModel, FieldModelMixin
from keras_pep.runtime import keras_of, layers_of


class AutoIntMixin(FieldModelMixin):
    """Interacting layers over the vectors of an example, and one logit.

    With `hidden_units` a perceptron beside them, which is AutoInt+.

    Args:
        *args: Those of `FieldModel`.
        num_layers: Number of interacting layers.
        num_heads: Attention heads of each.
        attention_units: Width of each, divided among the heads.
        attention_dropout: Share of attention weights dropped in training.
        hidden_units: Units of the perceptron's hidden layers; none: no
            perceptron.
        dropout: Share of its hidden units that is dropped in training.
        **kwargs: Those of `FieldModel`.

    Example:

    ```python
    model = keras_pep.models.AutoInt([6040, 3706], embedding_dim=16)
    model(np.array([[12, 7]]))  # (1, 1)
    ```

    Reference:
        - [Song et al., 2019](https://arxiv.org/abs/1810.11921)
    """

    def __init__(
        self,
        *args: Any,
        num_layers: int = 3,
        num_heads: int = 2,
        attention_units: int = 64,
        attention_dropout: float = 0.0,
        hidden_units: Sequence[int] = (),
        dropout: float = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        dtype, layers, ours = (
            self.dtype_policy,
            keras_of(self).layers,
            layers_of(self),
        )
        self.interactions = [
            ours.InteractingLayer(
                attention_units,
                num_heads,
                attention_dropout,
                name=f"interaction_{number}",
                dtype=dtype,
            )
            for number in range(num_layers)
        ]
        self.flatten = layers.Flatten(name="flatten", dtype=dtype)
        self.head = layers.Dense(1, name="top", dtype=dtype)
        self.hidden_units = tuple(hidden_units)
        self.dropout = dropout
        self.deep = (
            ours.MLP(self.hidden_units, dropout, name="deep", dtype=dtype)
            if self.hidden_units
            else None
        )
        self._settings = {
            "num_layers": num_layers,
            "num_heads": num_heads,
            "attention_units": attention_units,
            "attention_dropout": attention_dropout,
        }

    def logits(self, rows: Any, shares: Any, training: bool | None) -> Any:
        """Logits of the interacting layers, plus the perceptron's if any."""
        vectors = hidden = self.vectors(rows, shares)
        for interaction in self.interactions:
            hidden = interaction(hidden, training=training)
        logits = self.head(self.flatten(hidden))
        if self.deep is not None:
            logits = logits + self.deep(vectors, training=training)
        return logits

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            **self._settings,
            "hidden_units": list(self.hidden_units),
            "dropout": self.dropout,
        }


@keras.saving.register_keras_serializable(package="keras_pep")
class AutoInt(AutoIntMixin, FieldModel):  # noqa: D101
    __doc__ = AutoIntMixin.__doc__
