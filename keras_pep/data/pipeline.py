"""Batches for training."""

from typing import Any

import numpy as np

from keras_pep.data.dataset import Split

_AHEAD = 4  # batches made while the model is busy


def batches(split: Split, batch_size: int, seed: int) -> Any:
    """One shuffled pass over a split per epoch, as a `tf.data.Dataset`.

    Every epoch has its own exact permutation of all rows, drawn from the seed.
    Whole batches are gathered at once, so that no work is done per row. The
    last batch of an epoch may be smaller.

    Args:
        split: What to train on; kept in memory.
        batch_size: Rows of a batch.
        seed: The same seed gives the same order.

    Returns:
        Dataset of `(ids, labels)`: int32 `(batch, fields)`, float32
        `(batch, 1)`, with a known number of batches.
    """
    import tensorflow as tf

    with tf.device("CPU"):
        ids = tf.constant(split.ids)
        labels = tf.constant(split.labels[:, None])
        passes = tf.Variable(0, dtype=tf.int32, trainable=False)
    rows = len(split)
    starts = np.arange(0, rows, batch_size, dtype=np.int64)

    def epoch(number: Any) -> Any:
        order = tf.random.experimental.stateless_shuffle(
            tf.range(rows), seed=tf.stack([seed, number])
        )

        def batch(start: Any) -> Any:
            chosen = order[start : start + batch_size]
            return tf.gather(ids, chosen), tf.gather(labels, chosen)

        return tf.data.Dataset.from_tensor_slices(starts).map(batch)

    # A thread that tunes the pipeline sleeps longer and longer, and at the end
    # of an epoch it would be waited for: up to as long as the epoch took.
    options = tf.data.Options()
    options.autotune.enabled = False
    # Keras starts a new pass over the dataset for each epoch.
    return (
        tf.data.Dataset.range(1)
        .flat_map(lambda _: epoch(passes.assign_add(1)))
        .apply(tf.data.experimental.assert_cardinality(len(starts)))
        .prefetch(_AHEAD)
        .with_options(options)
    )
