"""Batches for training."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_pep.data.dataset import Split
from keras_pep.distribution import batch_shards

_BLOCK = 16_384  # rows that are read from disk in one go, about
_WINDOW = 32  # blocks whose rows are shuffled with one another
_AHEAD = 4  # batches made while the model is busy

Batch = tuple[np.ndarray, ...]


class Batches(keras.utils.PyDataset):
    """Shuffled batches of a split, in an order that the seed decides.

    Every epoch has an order of its own. In memory it is an exact permutation
    of all rows. On disk blocks of about 16,000 neighbouring rows are permuted,
    and the rows of 32 consecutive blocks with one another, so that every file
    is read forwards in large pieces. Whole batches are gathered at once; the
    last of an epoch may be smaller.

    A plain loop runs through the rest of an epoch, and the next loop through
    the next epoch:

    ```python
    for ids, labels in keras_pep.data.Batches(data.train, 1024, seed=0):
        ...
    ```

    `model.fit(batches, shuffle=False)` takes it as it is. Where
    `keras.distribution` divides batches among devices, on JAX, each has weights
    too, and the last one is filled up to be divisible.

    Args:
        split: What to train on.
        batch_size: Rows of a batch.
        seed: The same seed gives the same order.
        position: Batches that have been seen: 0 at first, the optimizer's
            `iterations` where a training is taken up again.

    Attributes:
        position: Batches that a loop has handed out; what to keep to go on
            from there.
    """

    def __init__(
        self, split: Split, batch_size: int, seed: int, position: int = 0
    ) -> None:
        super().__init__()
        self.split = split
        self.batch_size = batch_size
        self.seed = seed
        self.position = position
        self._window: Any = None
        self._ended = False

    @property
    def batches_per_epoch(self) -> int:
        """Batches of a whole epoch."""
        return -(-len(self.split) // self.batch_size)

    @property
    def epoch(self) -> int:
        """Number of the epoch that `position` is in, from 0."""
        return self.position // self.batches_per_epoch

    def __len__(self) -> int:
        return self.batches_per_epoch - self._seen

    def __getitem__(self, index: int) -> Batch:
        number = self._seen + index
        if not self._seen <= number < self.batches_per_epoch:
            raise IndexError(f"batch {index} of {len(self)}")
        window, place = divmod(number, self._window_size // self.batch_size)
        if self._window is None or self._window[0] != (self.epoch, window):
            self._window = None  # before there are two of them
            self._window = (
                (self.epoch, window),
                *self.window(self.epoch, window),
            )
        _, ids, labels, order = self._window
        self._ended = number == self.batches_per_epoch - 1
        start = place * self.batch_size
        chosen = order[start : start + self.batch_size]
        return self._divisible(ids[chosen], labels[chosen, None])

    def _divisible(self, ids: np.ndarray, labels: np.ndarray) -> Batch:
        """A batch that can be divided among the devices that share it.

        The last of an epoch gets rows of no weight, and its others more, so
        that the mean of their losses stays what it was. Batch normalization
        counts them all the same.
        """
        shards = batch_shards()
        if shards == 1:
            return ids, labels
        rows = len(ids)
        filled = rows + -rows % shards
        places = np.arange(filled) % rows
        weights = np.where(np.arange(filled) < rows, filled / rows, 0)
        return ids[places], labels[places], weights.astype(np.float32)

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(len(self)):
            batch = self[0]
            self.position += 1
            yield batch

    def on_epoch_end(self) -> None:
        """Goes on to the next epoch, if `model.fit` has seen this one.

        It calls this before the first epoch too.
        """
        if self._ended:
            self.position = (self.epoch + 1) * self.batches_per_epoch
            self._ended = False

    @property
    def _seen(self) -> int:
        return self.position % self.batches_per_epoch

    @property
    def windows(self) -> int:
        """In how many parts an epoch is read and shuffled."""
        return -(-len(self.split) // self._window_size)

    def window(
        self, epoch: int, number: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows that are shuffled with one another, and their order.

        Args:
            epoch: From 0.
            number: Of the window within the epoch, from 0.

        Returns:
            ids, int32 `(rows, columns)`; labels, float32 `(rows,)`; and the
            places of both in the order of training, int32 `(rows,)`.
        """
        ids, labels = self.split.ids, self.split.labels
        random = np.random.default_rng((self.seed, epoch))
        if isinstance(ids, np.ndarray):
            return ids, labels, _shuffled(len(ids), random)
        rows, block = len(self.split), self._block
        # A block that the end of the data cuts short stays where it is.
        starts = np.arange(0, rows, block)
        whole = rows // block
        starts[:whole] = random.permutation(starts[:whole])
        chosen = starts[number * _WINDOW : (number + 1) * _WINDOW]
        parts = [slice(start, start + block) for start in chosen]
        random = np.random.default_rng((self.seed, epoch, number))
        read = np.concatenate([ids[part] for part in parts])
        labels = np.concatenate([labels[part] for part in parts])
        return read, labels, _shuffled(len(read), random)

    @property
    def _block(self) -> int:
        return -(-_BLOCK // self.batch_size) * self.batch_size

    @property
    def _window_size(self) -> int:
        if self.split.in_memory:
            return self.batches_per_epoch * self.batch_size
        return self._block * _WINDOW


def _shuffled(rows: int, random: np.random.Generator) -> np.ndarray:
    return random.permutation(np.arange(rows, dtype=np.int32))


def batches(split: Split, batch_size: int, seed: int, position: int = 0) -> Any:
    """Shuffled batches of a split, as `Batches` and for TensorFlow's speed.

    Args:
        split: What to train on.
        batch_size: Rows of a batch.
        seed: The same seed gives the same order.
        position: Batches that have been seen, if a training is taken up again.

    Returns:
        The batches of `Batches`, in the same order: for Keras on TensorFlow a
        `tf.data.Dataset` of `(ids, labels)`, int32 `(batch, columns)` and
        float32 `(batch, 1)`, else the `Batches` themselves.
    """
    source = Batches(split, batch_size, seed, position)
    if keras.backend.backend() != "tensorflow":
        return source
    return _as_tf_data(source)


def _as_tf_data(source: Batches) -> Any:
    import tensorflow as tf

    split, size = source.split, source.batch_size
    first, seen = divmod(source.position, source.batches_per_epoch)
    with tf.device("CPU"):
        epochs = tf.Variable(first - 1, dtype=tf.int64, trainable=False)
        if split.in_memory:
            ids = tf.constant(split.ids)
            labels = tf.constant(split.labels[:, None])

    def in_memory(epoch: Any) -> Any:
        order = tf.numpy_function(
            lambda epoch: source.window(epoch, 0)[2], [epoch], tf.int32
        )
        order = tf.ensure_shape(order, (len(split),))

        def batch(start: Any) -> Any:
            chosen = order[start : start + size]
            return tf.gather(ids, chosen), tf.gather(labels, chosen)

        starts = np.arange(0, len(split), size, dtype=np.int64)
        return tf.data.Dataset.from_tensor_slices(starts).map(batch)

    def from_disk(epoch: Any) -> Any:
        def shuffled(epoch: int, number: int) -> tuple[np.ndarray, np.ndarray]:
            ids, labels, order = source.window(epoch, number)
            return ids[order], labels[order, None]

        def window(number: Any) -> Any:
            ids, labels = tf.numpy_function(
                shuffled, [epoch, number], (tf.int32, tf.float32)
            )
            ids = tf.ensure_shape(ids, (None, split.ids.shape[1]))
            return ids, tf.ensure_shape(labels, (None, 1))

        def slices(ids: Any, labels: Any) -> Any:
            starts = tf.range(0, tf.shape(labels)[0], size)
            return tf.data.Dataset.from_tensor_slices(starts).map(
                lambda start: (
                    ids[start : start + size],
                    labels[start : start + size],
                )
            )

        windows = tf.data.Dataset.range(source.windows).map(window)
        return windows.prefetch(1).flat_map(slices)

    def one_epoch(_: Any) -> Any:
        epoch = epochs.assign_add(1)
        batches = in_memory(epoch) if split.in_memory else from_disk(epoch)
        if not seen:
            return batches
        skipped = tf.where(epoch == first, seen, 0)
        return batches.skip(tf.cast(skipped, tf.int64))

    # A thread that tunes the pipeline sleeps longer and longer, and at the end
    # of an epoch it would be waited for: up to as long as the epoch took.
    options = tf.data.Options()
    options.autotune.enabled = False
    # Keras starts a new pass over the dataset for each epoch.
    dataset = tf.data.Dataset.range(1).flat_map(one_epoch)
    if not seen:
        dataset = dataset.apply(
            tf.data.experimental.assert_cardinality(source.batches_per_epoch)
        )
    dataset = dataset.prefetch(_AHEAD).with_options(options)
    gpus = tf.config.list_logical_devices("GPU")
    if len(gpus) == 1:  # several are for a strategy to feed
        dataset = dataset.apply(
            tf.data.experimental.prefetch_to_device(gpus[0].name, 2)
        )
    return dataset
