"""Factorization machine."""

from typing import Any, Self

import keras

from keras_pep.layers.linear import LinearMixin
from keras_pep.models.base import FieldModel, FieldModelMixin
from keras_pep.runtime import keras_of, layers_of

_SMALL = 1e-3
_WEIGHTS = "linear_weights"  # name of their table in tickets


class FMMixin(FieldModelMixin):
    """Factorization machine: first-order weights and all pairs of vectors.

    ```
    logit = b + sum_i w_i + sum_{i<j} <v_i, v_j>
    ```

    Args:
        *args: Those of `FieldModel`.
        linear: Where the first-order weights `w` are kept: `"dense"`, `"pep"`
            (pruned along with the table, and part of the budget), or a
            `Linear` layer.
        **kwargs: Those of `FieldModel`.

    Example:

    ```python
    model = keras_pep.models.FM(field_sizes=[6040, 3706], embedding_dim=64)
    model.compile(
        keras_pep.optimizers.AdamL2(1e-3),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    ```

    Reference:
        - [Rendle, 2010](https://doi.org/10.1109/ICDM.2010.127)
    """

    _pairs_layer = "FactorizationMachine"

    def __init__(
        self, *args: Any, linear: str | LinearMixin = "dense", **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        ours, dtype = layers_of(self), self.dtype_policy
        features, ticket = sum(self.field_sizes), kwargs.get("ticket")
        if ticket is not None and _WEIGHTS in ticket.tables:
            weights = ours.PrunedEmbedding.from_ticket(
                ticket, _WEIGHTS, name=_WEIGHTS, dtype=dtype
            )
            linear = ours.Linear(features, weights, name="linear", dtype=dtype)
        # Thresholds that start apart would never compete on equal terms.
        logit = getattr(self.embedding, "threshold_init", -15.0)
        self.first_order = self._linear_layer(linear, features, logit)
        self.interaction = getattr(ours, self._pairs_layer)(
            name="pairs", dtype=dtype
        )

    def logits(self, rows: Any, shares: Any, training: bool | None) -> Any:
        """Sum of first-order weights and pairwise interactions."""
        vectors = self.vectors(rows, shares)
        return self.first_order(rows, shares) + self.interaction(vectors)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "linear": keras_of(self).saving.serialize_keras_object(
                self.first_order
            ),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The model that `get_config` describes."""
        linear = keras_of(cls).saving.deserialize_keras_object(config["linear"])
        return super().from_config({**config, "linear": linear})

    def _linear_layer(
        self, linear: Any, features: int, threshold_init: float
    ) -> Any:
        ours, dtype = layers_of(self), self.dtype_policy
        if isinstance(linear, ours.Linear):
            if linear.input_dim != features:
                raise ValueError(
                    f"`linear` must have a weight for each of the {features} "
                    f"features. Received: linear of {linear.input_dim}"
                )
            return linear
        if linear not in ("dense", "pep"):
            raise ValueError(
                "`linear` must be 'dense', 'pep' or a `Linear` layer. "
                f"Received: linear={linear!r}"
            )
        weights = None
        if linear == "pep":
            # A threshold gives no gradient to a weight of zero, and a weight
            # that training has not moved should be the first to go: small,
            # not zero.
            weights = ours.PEPEmbedding(
                *(features, 1),
                granularity="feature_dimension",
                threshold_init=threshold_init,
                embeddings_initializer=keras.initializers.RandomNormal(
                    stddev=_SMALL
                ),
                name=_WEIGHTS,
                dtype=dtype,
            )
        return ours.Linear(features, weights, name="linear", dtype=dtype)


@keras.saving.register_keras_serializable(package="keras_pep")
class FM(FMMixin, FieldModel):  # noqa: D101
    __doc__ = FMMixin.__doc__
