"""Ranking: how likely is this user to like this item."""

from typing import Any, Self

import tensorflow_recommenders as tfrs
import tf_keras


def refuse_own_task(own: bool) -> None:
    """Refuse a configuration that a task would be missing of.

    Raises:
        ValueError: If the model has one.
    """
    if own:
        raise ValueError(
            "A task of your own is not part of the model's configuration: save "
            "its weights, and save, prune or export the models inside it."
        )


@tf_keras.saving.register_keras_serializable(package="keras_pep")
class RankingModel(tfrs.Model):
    """Recommender of `keras_pep.tfrs.models` with the task of ranking.

    Args:
        scorer: Model that gives a logit for each row of ids, such as
            `keras_pep.tfrs.models.FM(field_sizes)`.
        task: `tfrs.tasks.Ranking` on logits. By default of the binary
            cross-entropy, with the metrics `auc` and `logloss`, the mean of
            batches. (`val_loss` is that of the last batch alone, as always in
            a `tfrs.Model`: let callbacks monitor a metric.) One of your own is
            not part of the configuration: save weights, or the scorer, and
            prune the scorer. Exported, logits become probabilities.
        **kwargs: `name` and other arguments of `tf_keras.Model`.

    Input:
        For `fit`: batches of `(ids, labels)` or `(ids, labels, weights)`, as
        `keras_pep.data.batches` gives them; for a call: ids,
        `(batch, columns)`, each field numbered from 0.

    Output shape:
        Logits, `(batch, 1)`.

    Example:

    ```python
    import keras_pep.tfrs as pep

    model = pep.RankingModel(pep.models.FM([4_000, 4_000], embedding_dim=8))
    model.build()
    model.compile(pep.optimizers.LazyAdam(1e-3))
    model.fit(*train, verbose=0)
    ```
    """

    def __init__(
        self,
        scorer: tf_keras.Model,
        task: tfrs.tasks.Ranking | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.scorer = scorer
        self._own_task = task is not None
        self.task = task or tfrs.tasks.Ranking(
            loss=tf_keras.losses.BinaryCrossentropy(from_logits=True),
            metrics=[tf_keras.metrics.AUC(from_logits=True, name="auc")],
            loss_metrics=[tf_keras.metrics.Mean(name="logloss")],
        )
        self.built = scorer.built

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Logits of a batch of ids."""
        return self.scorer(inputs, training=training)

    def compute_loss(self, inputs: Any, training: bool = False) -> Any:
        """The loss of a batch, and its metrics."""
        ids, labels, *weights = inputs
        return self.task(
            labels=labels,
            predictions=self(ids, training=training),
            sample_weight=weights[0] if weights else None,
        )

    def build(self, input_shape: Any = None) -> None:
        """Create the weights."""
        if not self.scorer.built:
            self.scorer.build(input_shape)
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """Name and scorer.

        Raises:
            ValueError: If the model has a task of its own.
        """
        refuse_own_task(self._own_task)
        scorer = tf_keras.saving.serialize_keras_object(self.scorer)
        return {"name": self.name, "scorer": scorer}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The model that `get_config` describes, with the default task."""
        scorer = tf_keras.saving.deserialize_keras_object(config["scorer"])
        return cls(**{**config, "scorer": scorer})

    def get_build_config(self) -> dict[str, Any]:
        """Return the scorer's value."""
        config: dict[str, Any] = self.scorer.get_build_config()
        return config

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Create the weights."""
        self.build(config["input_shape"])
