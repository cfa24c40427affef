"""Retrieval: which of all items might this user like."""

from typing import Any, Self

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from keras_pep.layers.embedding import positive_integer
from keras_pep.tfrs.ranking import refuse_own_task

_AT_ONCE = 2**14  # items whose vectors are computed in one go


@tf_keras.saving.register_keras_serializable(package="keras_pep")
class RetrievalModel(tfrs.Model):
    """Two towers, whose vectors are close where a user likes an item.

    ```
    score(user, item) = <user_tower(user), item_tower(item)>
    ```

    Args:
        user_tower: Model from what a user is called to a vector, `(batch,)` to
            `(batch, width)`, with an `Input`; for example
            `Sequential([Input(...), StringLookup(...), PEPEmbedding(...)])`.
        item_tower: The same for items.
        items: What all items are called, integers or strings, `(items,)`,
            each once.
        top_k: How many items `serving_function` returns, or all if there are
            fewer.
        task: `tfrs.tasks.Retrieval`. By default of the softmax over the items
            of a batch, without those that are the true one, with
            `tfrs.metrics.FactorizedTopK` over all items, on validation data.
            (`val_loss` is that of the last batch alone, as always in a
            `tfrs.Model`: let callbacks monitor a metric.) One of your own is
            not part of the configuration: save weights, or the towers, and
            prune or export these.
        **kwargs: `name` and other arguments of `tf_keras.Model`.

    Input:
        For `fit`: batches of `(users, items)`, both `(batch,)`, or `(users,
        items, probabilities)`, the third being how likely each item is to be
        in a batch, for which the softmax is corrected; for a call: `(users,
        items)`.

    Output shape:
        Scores, `(batch,)`.

    Example:

    ```python
    import keras_pep.tfrs as pep
    import tf_keras

    def tower(rows):
        ids = tf_keras.Input((), dtype="int32")
        return tf_keras.Model(ids, pep.PEPEmbedding(rows, 8)(ids))

    items = np.arange(4_000)
    model = pep.RetrievalModel(tower(4_000), tower(4_000), items, top_k=10)
    model.compile(pep.optimizers.LazyAdam(1e-3))
    users, liked = train[0][:, 0], train[0][:, 1]
    model.fit(users, liked, verbose=0)
    ```
    """

    def __init__(
        self,
        user_tower: tf_keras.Model,
        item_tower: tf_keras.Model,
        items: Any,
        top_k: int = 100,
        task: tfrs.tasks.Retrieval | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.user_tower = user_tower
        self.item_tower = item_tower
        self.items = _names(items)
        self._own_task = task is not None
        self.top_k = positive_integer("top_k", top_k)
        if task is None:
            candidates = tf.data.Dataset.from_tensor_slices(self.items)
            task = tfrs.tasks.Retrieval(
                metrics=tfrs.metrics.FactorizedTopK(
                    candidates.batch(_AT_ONCE).map(
                        lambda names: (names, item_tower(names))
                    ),
                    ks=[k for k in (10, 100) if k <= self.items.size] or [1],
                ),
                remove_accidental_hits=True,
            )
        self.task = task
        self.built = True  # as its towers are

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Scores of pairs."""
        users, items = _pair(inputs)
        return tf.reduce_sum(
            self.user_tower(users, training=training)
            * self.item_tower(items, training=training),
            axis=-1,
        )

    def compute_loss(self, inputs: Any, training: bool = False) -> Any:
        """The loss of a batch, and in evaluation its metrics."""
        users, items, *probabilities = _pair(inputs)
        if self.items.dtype.kind == "i":
            items = tf.cast(items, self.items.dtype)
        for each in probabilities:
            tf.debugging.assert_less_equal(
                tf.cast(each, tf.float32),
                1.0,
                "These are no probabilities of items, but weights?",
            )
        ids = items
        if training and items.dtype == tf.string:  # all pairs are compared
            ids = tf.strings.to_hash_bucket_fast(items, 2**62)
        return self.task(
            self.user_tower(users, training=training),
            self.item_tower(items, training=training),
            candidate_sampling_probability=(
                probabilities[0] if probabilities else None
            ),
            candidate_ids=ids,
            compute_metrics=not training,
        )

    def serving_function(self) -> tuple[Any, Any]:
        """From users to their best items, for `export_saved_model`.

        Vectors of items are not stored: they are computed anew from the
        pruned table for every batch of users, some items at once.

        Returns:
            A function from users, `(batch,)`, to `items`, `(batch, top_k)`, by
            falling `scores`; and what it refers to.

        Raises:
            ValueError: If what a user is is not told by one input.
        """
        names = tf.Variable(self.items, trainable=False)
        count, top_k = self.items.size, min(self.top_k, self.items.size)
        inputs: Any = getattr(self.user_tower, "inputs", None) or ()
        if len(inputs) != 1:
            raise ValueError(
                "The user tower must have one `Input` to be exported. "
                f"Received: {len(inputs)}"
            )

        def best(user: tf.Tensor) -> dict[str, tf.Tensor]:
            queries = self.user_tower(user, training=False)

            def better(
                start: tf.Tensor, scores: tf.Tensor, places: tf.Tensor
            ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
                end = tf.minimum(start + _AT_ONCE, count)
                vectors = self.item_tower(names[start:end], training=False)
                found = tf.matmul(queries, vectors, transpose_b=True)
                scores = tf.concat([scores, found], axis=1)
                scores, chosen = tf.math.top_k(
                    scores, tf.minimum(top_k, tf.shape(scores)[1])
                )
                new = tf.broadcast_to(tf.range(start, end), tf.shape(found))
                places = tf.concat([places, new], axis=1)
                places = tf.gather(places, chosen, batch_dims=1)
                return end, scores, places

            rows = tf.shape(queries)[0]
            _, scores, places = tf.while_loop(
                lambda start, *_: start < count,
                better,
                (
                    tf.constant(0),
                    tf.zeros((rows, 0), queries.dtype),
                    tf.zeros((rows, 0), tf.int32),
                ),
                shape_invariants=(
                    tf.TensorShape([]),
                    tf.TensorShape([None, None]),
                    tf.TensorShape([None, None]),
                ),
                parallel_iterations=1,
            )
            scores = tf.ensure_shape(scores, (None, top_k))
            return {
                "items": tf.gather(names, places),
                "scores": tf.cast(scores, tf.float32),
            }

        return best, names

    def get_config(self) -> dict[str, Any]:
        """Name, towers and items.

        Raises:
            ValueError: If the model has a task of its own.
        """
        refuse_own_task(self._own_task)
        serialize = tf_keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "user_tower": serialize(self.user_tower),
            "item_tower": serialize(self.item_tower),
            "items": self.items.tolist(),
            "top_k": self.top_k,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The model that `get_config` describes, with the default task."""
        towers = {
            name: tf_keras.saving.deserialize_keras_object(config[name])
            for name in ("user_tower", "item_tower")
        }
        return cls(**{**config, **towers})

    def get_build_config(self) -> dict[str, Any]:
        """Nothing that the towers do not know."""
        return {"input_shape": None}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Nothing is left to do: towers with an `Input` are built."""
        self.built = True


def _names(items: Any) -> np.ndarray:
    """Names of the items: int64 or strings.

    Raises:
        ValueError: If they are not, or two are called the same.
    """
    names = np.asarray(items)
    if names.dtype.kind == "O" and all(isinstance(n, bytes) for n in names):
        names = names.astype(bytes)  # as TensorFlow has strings
    if names.dtype.kind == "S":
        names = np.char.decode(names, "utf-8")
    if names.ndim != 1 or not names.size or names.dtype.kind not in "iuUO":
        raise ValueError(
            "`items` must be a vector of the names of items. "
            f"Received: items of shape {names.shape}, {names.dtype}"
        )
    if np.unique(names).size < names.size:
        raise ValueError("`items` must not name an item twice.")
    return names.astype(np.int64 if names.dtype.kind in "iu" else str)


def _pair(inputs: Any) -> Any:
    """Users, items, and what comes after them.

    Raises:
        TypeError: If it is not a tuple of these.
    """
    if not isinstance(inputs, tuple | list):
        raise TypeError(
            "Batches must be tuples of users and items. "
            f"Received: {type(inputs).__name__}"
        )
    return inputs
