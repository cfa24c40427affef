"""How much of the training loop is training."""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_pep.callbacks import ExactValidation
from keras_pep.data import Dataset, Split, batches, load
from keras_pep.data.fields import Field, Vocabulary
from keras_pep.distribution.replicas import build_slots
from keras_pep.lab.benchmark.turns import Measured
from keras_pep.lab.run.checkpoint import Checkpoint
from keras_pep.lab.run.config import Config
from keras_pep.lab.run.interrupt import Interruptible
from keras_pep.lab.run.progress import EpochLog
from keras_pep.lab.run.tensorboard import TensorBoardLog
from keras_pep.lab.text import markdown
from keras_pep.pruning import search

# MovieLens-1M with the paper's features.
FIELD_SIZES = (278, 2, 7, 21, 3439, 81, 301)
_ROWS = {"train": 591_209, "validation": 73_901}


def loop_table(data_dir: str | None = None, epochs: int = 6) -> str:
    """Compare `keras-pep train` with its bare training step.

    The loop is the search by budget as the command runs it: batches shuffled
    and gathered, the clock set, validation AUC after every epoch. The bare
    step is the same step, compiled, on the same batch again and again. What
    watching takes, the progress bar and TensorBoard's files, and what
    checkpoints take is said too.

    Args:
        data_dir: Folder of MovieLens-1M; by default, random data of its shape.
        epochs: Length of the search. The first epoch is not counted.

    Returns:
        A table.
    """
    dataset = _dataset(data_dir)
    train, validation = dataset.train, dataset.validation
    config = Config()
    model, other = (config.build_model(dataset, "pep") for _ in range(2))
    bare = _BareStep(other, train, config.batch_size)
    history: list[dict[str, Any]] = []
    steps = -(-len(train) // config.batch_size)
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        parameters = config.parameters(dataset)
        log = EpochLog("search", history, parameters, bar=True)
        events = TensorBoardLog(Path(folder, "logs"), dataset, parameters)
        file = Path(folder, "checkpoint.npz")
        saving = Checkpoint(lambda saved: saved.write(file), "search", [log])
        search(
            model,
            batches(train, config.batch_size, seed=0),
            budgets=[30_000],
            epochs=epochs,
            callbacks=[
                bare,
                ExactValidation(validation.ids, validation.labels),
                *clock.timed("watching", [log, Interruptible(), events]),
                *clock.timed("checkpoints", [saving]),
            ],
        )
    loop = [row["seconds"] / steps * 1e3 for row in history[1:]]
    measured = {
        "bare step": Measured(bare.milliseconds),
        "keras-pep train, search by budget": Measured(loop),
    }
    bare_step, whole = (each.median for each in measured.values())
    total = sum(row["seconds"] for row in history)
    parts = [
        f"{name} {seconds / total:.1%}"
        for name, seconds in clock.seconds.items()
    ]
    table = markdown(
        ["per training step", "ms", "fastest - slowest"],
        [
            [name, f"{each.median:.2f}", each.spread(2)]
            for name, each in measured.items()
        ],
    )
    return (
        f"{table}\n\nThe loop reaches {bare_step / whole:.0%} of the bare "
        f"throughput. Of its time take {' and '.join(parts)}."
    )


class _Clock:
    """Adds up the time that callbacks take."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timed(
        self, name: str, callbacks: Sequence[keras.callbacks.Callback]
    ) -> Sequence[keras.callbacks.Callback]:
        """The callbacks, whose time is added to that of a name."""
        self.seconds[name] = 0.0
        for callback in callbacks:
            for hook in dir(callback):
                if hook.startswith("on_"):
                    setattr(callback, hook, self._timed(name, callback, hook))
        return callbacks

    def _timed(
        self, name: str, callback: keras.callbacks.Callback, hook: str
    ) -> Callable[..., None]:
        call = getattr(callback, hook)

        def timed(*args: Any, **kwargs: Any) -> None:
            began = time.perf_counter()
            call(*args, **kwargs)
            self.seconds[name] += time.perf_counter() - began

        return timed


class _BareStep(keras.callbacks.Callback):
    """Times steps of another model before every epoch."""

    def __init__(
        self, other: keras.Model, train: Split, batch_size: int
    ) -> None:
        super().__init__()
        import tensorflow as tf

        self.milliseconds: list[float] = []
        self._batch = next(iter(batches(train, batch_size, seed=1)))
        build_slots(other)
        self._step = tf.function(other.train_step)
        self._step(self._batch)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Run 200 steps."""
        began = time.perf_counter()
        for _ in range(200):
            self._step(self._batch)
        self.milliseconds.append((time.perf_counter() - began) / 200 * 1e3)


def _dataset(data_dir: str | None) -> Dataset:
    if data_dir is not None:
        return load("movielens", data_dir, features="paper")
    random = np.random.default_rng(0)
    train, validation = (random_split(random, n) for n in _ROWS.values())
    return Dataset(
        name="random",
        features="movielens-1m",
        train=train,
        validation=validation,
        test=validation,
        vocabularies={
            name: Vocabulary(Field(name, name), np.arange(size))
            for name, size in zip("abcdefg", FIELD_SIZES, strict=True)
        },
    )


def random_split(random: np.random.Generator, rows: int) -> Split:
    """Rows of MovieLens' shape: Zipf ids in every field, labels by chance."""
    columns = []
    for size in FIELD_SIZES:
        popularity = 1 / np.arange(1, size + 1)
        shares = popularity / popularity.sum()
        columns.append(random.choice(size, rows, p=shares))
    labels = random.integers(0, 2, rows).astype(np.float32)
    return Split(np.stack(columns, axis=1).astype(np.int32), labels)
