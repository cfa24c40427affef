"""Batches for training."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_pep.data.dataset import Split
from keras_pep.distribution.row_parallel import batch_shards

_BLOCK = 16_384  # rows that are read from disk in one go, about
_WINDOW = 32  # blocks whose rows are shuffled with one another
_LANES = 8  # equal parts of a window, each of which has its part of a batch
_AHEAD = 4  # batches made while the model is busy

Batch = tuple[np.ndarray, ...]


class Batches(keras.utils.PyDataset):
    """Shuffled batches of a split, in an order that the seed decides.

    Every epoch has an order of its own. In memory it is an exact permutation
    of all rows. On disk blocks of about 16,000 neighbouring rows are permuted,
    and the rows of 32 consecutive blocks with one another, so that every file
    is read forwards in large pieces. Each eighth of such a batch, if its size
    allows, is from an eighth of these blocks, so that whoever needs a share of
    each batch reads that share of the blocks, in the order of all. Whole
    batches are gathered at once; the last of an epoch may be smaller.

    A loop goes through one epoch. Once it has got the last batch, the next loop
    goes through the next epoch. Until then every loop sees the same batches, so
    that a look at some of them changes nothing.

    A split with weights has them as the third part of each batch, the
    `sample_weight` of Keras.

    `model.fit(batches)` does the same, with `shuffle=True` as well: the order
    is that of the seed. Where `keras.distribution` divides batches among
    devices, on JAX, each has weights in any case, and the last one is filled
    up to be divisible.

    Args:
        split: What to train on.
        batch_size: Rows of a batch.
        seed: The same seed gives the same order.
        position: Batches that have been seen: 0 at first, the optimizer's
            `iterations` where a training is taken up again. From the middle of
            an epoch every loop goes to the middle of the next, since `fit`
            wants epochs of one length.
        share: Which of how many equal parts of each batch is needed: `(1, 2)`
            is its second half. What is on disk of other rows need not be read:
            their ids may be 0.

    Attributes:
        position: Number of the batch that the next loop begins with.

    Example:

    ```python
    data = keras_pep.data.load("synthetic")
    for ids, labels in keras_pep.data.Batches(data.train, 1024, seed=0):
        print(ids.shape, labels.shape)
        break
    ```
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int,
        position: int = 0,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        super().__init__()
        self.split = split
        self.batch_size = batch_size
        self.seed = seed
        self.position = position
        self.share = share
        self._window: Any = None
        # In `fit`: how many batches it had asked for before each index, and
        # the number of the first.
        self._asked: dict[int, int] | None = None
        self._asks_anew = True
        self._first = position

    @property
    def epoch(self) -> int:
        """Number of the epoch that `position` is in, from 0."""
        return self.position // len(self)

    def __len__(self) -> int:
        return -(-len(self.split) // self.batch_size)

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        if self._asked is None:
            return self._batch(self.position + index)
        if self._asks_anew:
            self._asked, self._first = {}, self.position
            self._asks_anew = False
        place = self._asked.setdefault(index, len(self._asked))
        return self._batch(self._first + place)

    def __iter__(self) -> Iterator[Batch]:
        end = self.position + len(self)
        for number in range(self.position, end):
            batch = self._batch(number)
            if number == end - 1:
                self.position = max(self.position, end)
            yield batch

    # With `shuffle=True` Keras asks for the batches of an epoch in an order of
    # its own, and does not say so. They are in random order already, and from
    # disk only one after the other is fast. So, in `fit`, the index it asks for
    # first stands for the first batch, and so on. Whenever Keras begins to ask
    # anew, it first asks how many there are.

    @property
    def num_batches(self) -> int:
        """Batches of an epoch, for Keras."""
        self._asks_anew = True
        return len(self)

    def on_epoch_begin(self) -> None:
        """Begins to count what `model.fit` asks for.

        Raises:
            ValueError: If several workers are to ask.
        """
        if self.workers > 1 or self.use_multiprocessing:
            raise ValueError(
                "Batches are made in their order, by one worker. Received: "
                f"workers={self.workers}, "
                f"use_multiprocessing={self.use_multiprocessing}"
            )
        if self._asked is None:
            self._asked, self._asks_anew = {}, True

    def on_epoch_end(self) -> None:
        """Goes on to the next epoch, if `model.fit` has seen this one.

        Keras calls this before the first epoch too, and after a look at a
        batch, by which it has built a model: so an epoch of a single batch
        counts as seen then.
        """
        if self._asked is not None and len(self._asked) == len(self):
            self.position = max(self.position, self._first + len(self))
            self._asked = None

    def _batch(self, number: int) -> Batch:
        """Return a batch by its number since the first epoch began."""
        epoch, number = divmod(number, len(self))
        number, place = divmod(number, self._batches_per_window)
        window = self._window
        if window is None or window[0] != (epoch, number):
            window = self._window = None  # before there are two of them
            window = ((epoch, number), *self.window(epoch, number))
            self._window = window
        _, *arrays, order = window
        start = place * self.batch_size
        chosen = order[start : start + self.batch_size]
        return self._divisible(*(each[chosen] for each in arrays))

    def _divisible(
        self, ids: np.ndarray, labels: np.ndarray, *weights: np.ndarray
    ) -> Batch:
        """Fill up a batch so that it can be divided among devices.

        The last of an epoch gets rows of no weight, and its others more, so
        that the mean of their losses stays what it was. Batch normalization
        counts them all the same.
        """
        shards = batch_shards()
        if shards == 1:
            return ids, labels, *weights
        rows = len(ids)
        filled = rows + -rows % shards
        places = np.arange(filled) % rows
        shares = np.where(np.arange(filled) < rows, filled / rows, 0)
        for each in weights:
            shares = shares * each[places]
        return ids[places], labels[places], shares.astype(np.float32)

    @property
    def windows(self) -> int:
        """Count the parts in which an epoch is read and shuffled."""
        return -(-len(self) // self._batches_per_window)

    def window(self, epoch: int, number: int) -> tuple[np.ndarray, ...]:
        """Return rows that are shuffled with one another, and their order.

        Args:
            epoch: From 0.
            number: Of the window within the epoch, from 0.

        Returns:
            ids, int32 `(rows, columns)`; labels, float32 `(rows, 1)`; weights,
            float32 `(rows,)`, if the split has some; and the places of all in
            the order of training, int32 `(rows,)`.
        """
        ids, arrays = self.split.ids, _beside_ids(self.split)
        random = np.random.default_rng((self.seed, epoch))
        if isinstance(ids, np.ndarray):
            return ids, *arrays, _shuffled(len(ids), random)
        rows, block = len(self.split), self._block
        # A block that the end of the data cuts short stays where it is.
        starts = np.arange(0, rows, block)
        whole = rows // block
        starts[:whole] = random.permutation(starts[:whole])
        chosen = starts[number * _WINDOW : (number + 1) * _WINDOW]
        parts = [slice(start, start + block) for start in chosen]
        random = np.random.default_rng((self.seed, epoch, number))
        chunks = (
            np.concatenate([each[part] for part in parts]) for each in arrays
        )
        if (
            len(chosen) % _LANES
            or rows < chosen.max() + block
            or (self.batch_size % _LANES)
        ):
            read = np.concatenate([ids[part] for part in parts])
            return read, *chunks, _shuffled(len(read), random)
        number, count = self.share
        lanes = np.arange(_LANES)
        needed = (lanes * count < (number + 1) * _LANES) & (
            (lanes + 1) * count > number * _LANES
        )
        read = np.zeros((len(chosen) * block, ids.shape[1]), np.int32)
        per_lane = len(chosen) // _LANES
        for place in np.flatnonzero(needed.repeat(per_lane)):
            read[place * block : (place + 1) * block] = ids[parts[place]]
        size = per_lane * block
        orders = [_shuffled(size, random) + lane * size for lane in lanes]
        by_batch = np.reshape(orders, (_LANES, -1, self.batch_size // _LANES))
        return read, *chunks, by_batch.swapaxes(0, 1).astype(np.int32).ravel()

    @property
    def _block(self) -> int:
        return -(-_BLOCK // self.batch_size) * self.batch_size

    @property
    def _batches_per_window(self) -> int:
        if self.split.in_memory:
            return len(self)
        return self._block * _WINDOW // self.batch_size


def _beside_ids(split: Split) -> list[np.ndarray]:
    """List the labels, `(rows, 1)`, and the weights, if there are some."""
    weights = [] if split.weights is None else [split.weights]
    return [split.labels[:, None], *weights]


def _shuffled(rows: int, random: np.random.Generator) -> np.ndarray:
    return random.permutation(np.arange(rows, dtype=np.int32))


def batches(
    split: Split,
    batch_size: int,
    seed: int,
    position: int = 0,
    share: tuple[int, int] = (0, 1),
) -> Any:
    """Shuffled batches of a split, as `Batches` and for TensorFlow's speed.

    Args:
        split: What to train on.
        batch_size: Rows of a batch.
        seed: The same seed gives the same order.
        position: Batches that have been seen, if a training is taken up again.
        share: See `Batches`.

    Returns:
        The batches of `Batches`, in the same order: for Keras on TensorFlow a
        `tf.data.Dataset` of `(ids, labels)`, int32 `(batch, columns)` and
        float32 `(batch, 1)`, and weights, float32 `(batch,)`, if the split
        has some; else the `Batches` themselves.

    Example:

    ```python
    data = keras_pep.data.load("synthetic")
    train = keras_pep.data.batches(data.train, batch_size=1024, seed=0)
    model = keras_pep.models.FM(data.field_sizes, embedding_dim=8)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras_pep.optimizers.LazyAdam(1e-3), loss)
    model.fit(train, epochs=1, shuffle=False, verbose=0)
    ```
    """
    source = Batches(split, batch_size, seed, position, share)
    if keras.backend.backend() != "tensorflow":
        return source
    return _as_tf_data(source)


def _as_tf_data(source: Batches) -> Any:
    import tensorflow as tf

    split, size = source.split, source.batch_size
    length, per_window = len(source), source._batches_per_window
    first, seen = divmod(source.position, length)
    with tf.device("CPU"):
        # Epochs whose last batch somebody has got.
        finished = tf.Variable(0, dtype=tf.int64, trainable=False)
        if split.in_memory:
            held = [tf.constant(x) for x in (split.ids, *_beside_ids(split))]

    def in_memory(epoch: Any, begin: int, end: int) -> Any:
        order = tf.numpy_function(
            lambda epoch: source.window(epoch, 0)[-1], [epoch], tf.int32
        )
        order = tf.ensure_shape(order, (len(split),))

        def batch(number: Any) -> Any:
            chosen = order[number * size : (number + 1) * size]
            return tuple(tf.gather(each, chosen) for each in held)

        return tf.data.Dataset.range(begin, end).map(batch)

    def from_disk(epoch: Any, begin: int, end: int) -> Any:
        shapes: list[Any] = [(None, split.ids.shape[1]), (None, 1)]
        shapes += [(None,)] * (split.weights is not None)

        def shuffled(epoch: int, number: int) -> tuple[np.ndarray, ...]:
            *arrays, order = source.window(epoch, number)
            return tuple(each[order] for each in arrays)

        def window(number: Any) -> Any:
            types = (tf.int32, *[tf.float32] * (len(shapes) - 1))
            made = tf.numpy_function(shuffled, [epoch, number], types)
            return tuple(map(tf.ensure_shape, made, shapes))

        skipped, rest = divmod(begin, per_window)
        windows = tf.data.Dataset.range(skipped, -(-end // per_window))
        # All windows but the last are whole batches.
        batches = windows.map(window).prefetch(1).rebatch(size)
        return batches.skip(rest).take(end - begin)

    def one_epoch(_: Any) -> Any:
        """Batches, each with how many have been read by then, with it."""
        made = in_memory if split.in_memory else from_disk
        number = finished.read_value()
        batches = made(first + number, seen, length)
        if seen:
            batches = batches.concatenate(made(first + number + 1, 0, seen))
        count = tf.data.Dataset.range(
            number * length + 1, (number + 1) * length + 1
        )
        return tf.data.Dataset.zip(count, batches)

    def read(count: Any, batch: Any) -> Any:
        finished.assign(tf.maximum(finished, count // length))
        return batch

    # A thread that tunes the pipeline sleeps longer and longer, and at the end
    # of an epoch it would be waited for: up to as long as the epoch took.
    options = tf.data.Options()
    options.autotune.enabled = False
    # Keras starts a new pass over the dataset for each epoch.
    dataset = tf.data.Dataset.range(1).flat_map(one_epoch)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(length))
    # What is made ahead has not been read yet.
    dataset = dataset.prefetch(_AHEAD).map(read).with_options(options)
    gpus = tf.config.list_logical_devices("GPU")
    # Several are for a strategy to feed. What one has ahead counts as read.
    if len(gpus) == 1 and length > 2 * _AHEAD:
        dataset = dataset.apply(
            tf.data.experimental.prefetch_to_device(gpus[0].name, 2)
        )
    return dataset
