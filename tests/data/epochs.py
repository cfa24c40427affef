"""Which batches `fit` and loops read, on any backend.

Batches are told by the first ids of their rows.
"""

import itertools
from pathlib import Path

import keras
import numpy as np

import keras_pep
from keras_pep.data import Batches, Split, batches
from keras_pep.data.stored import StoredColumns

ROWS, SIZE, SEED = 1000, 64, 3
LENGTH = 16  # batches


def in_memory():
    ids = np.arange(ROWS, dtype=np.int32)
    return Split(np.stack([ids, ids % 7], axis=1), np.float32(ids % 2))


def on_disk(folder):
    split, paths = in_memory(), [Path(folder, f"{n}.npy") for n in range(2)]
    for path, column in zip(paths, split.ids.T, strict=True):
        np.save(path, column.astype(np.uint16))
    return Split(StoredColumns(paths), split.labels)


class Notes(keras.Model):
    """Notes what it gets.

    For its metric Keras looks at a batch beforehand, on JAX and PyTorch.
    """

    def __init__(self, **compiled):
        super().__init__()
        self.seen = []
        looked_at = keras.backend.backend() != "tensorflow"
        self.compile(
            loss="mse",
            metrics=["mae"] if looked_at else None,
            run_eagerly=True,
            **compiled,
        )

    def call(self, inputs):
        return keras.ops.cast(inputs[:, :1], "float32")

    def train_step(self, *state_and_data):
        *state, data = state_and_data
        self.seen.append(first_ids(data))
        return ({"loss": 0.0}, *state) if state else {"loss": 0.0}

    def fitted(self, data, epochs=2, **arguments):
        self.fit(data, epochs=epochs, verbose=0, **arguments)
        return self.seen


class StopsAfter(keras.callbacks.Callback):
    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = batch + 1 == self.steps


def first_ids(batch):
    return keras.ops.convert_to_numpy(batch[0])[:, 0].tolist()


def read(data, count=None):
    return [first_ids(batch) for batch in itertools.islice(data, count)]


def fits(made, validated_by):
    """What `fit` reads, by how it is called."""
    found = {
        "by default": Notes().fitted(made()),
        "not shuffled": Notes().fitted(made(), shuffle=False),
        "from the middle": Notes().fitted(made(5)),
        "validated": Notes().fitted(made(), validation_data=made(7)),
        "parts of epochs": Notes().fitted(made(), 4, steps_per_epoch=8),
        "uneven parts": Notes().fitted(made(), 3, steps_per_epoch=5),
    }
    if keras.backend.backend() != "torch":  # it has always 1
        several = Notes(steps_per_execution=3)
        found["several steps"] = several.fitted(made())
    data, model = made(), Notes()
    for count in (1, LENGTH - 1):
        read(data, count)
    found["looked at before"] = model.fitted(data)
    data, model = made(), Notes()
    model.fitted(data, callbacks=[StopsAfter(5)])
    model.evaluate(validated_by, verbose=0)
    found["stopped and begun again"] = model.fitted(data)
    data, model = made(), Notes()
    model.fitted(data, 1)
    found["one after the other"] = model.fitted(data, 1)
    return found


def loops(made):
    """Record what loops read."""
    data = made()
    peeks = [read(data, n) for n in (1, 5, LENGTH - 1)]
    pairs = [
        [first_ids(one), first_ids(other)]
        for one, other in zip(data, data, strict=True)
    ]
    one, other = iter(data), iter(data)
    apart = [read(one, 3), read(other), read(one)]
    return {
        "peeks": peeks,
        "pairs": pairs,
        "apart": apart,
        "afterwards": [*read(data), *read(data)],
        "from the middle": [*read(made(5)), *read(made(5 + LENGTH))],
    }


def tickets(split):
    """What a search keeps, of a model that was built before and of one not.

    By batches, and by arrays, which Keras shuffles.
    """
    x, y = split.ids, split.labels[:, None]
    found = []
    for built, train, arguments in (
        (True, batches(split, SIZE, SEED), {}),
        (False, batches(split, SIZE, SEED), {}),
        (True, (x, y), {"batch_size": SIZE}),
        (False, x, {"batch_size": SIZE, "y": y}),
    ):
        keras.utils.set_random_seed(0)
        model = keras_pep.models.FM((ROWS, 7), 4)
        model.compile(
            keras_pep.optimizers.AdamL2(0.02),
            keras.losses.BinaryCrossentropy(from_logits=True),
        )
        if built:
            model.build()
        (ticket,) = keras_pep.search(
            model, train, budgets=[500], epochs=2, **arguments
        )
        table = ticket.learned_tables()["embedding"]
        found.append([table.columns.tolist(), table.values.tolist()])
    return found


def read_everywhere(folder):
    """Record what loops, `fit` and a search read, in memory and not."""
    splits = {"in memory": in_memory(), "on disk": on_disk(folder)}
    found = {}
    for place, split in splits.items():
        kinds = {
            "batches": lambda p=0, s=split: batches(s, SIZE, SEED, p),
            "Batches": lambda p=0, s=split: Batches(s, SIZE, SEED, p),
        }
        found[place] = {
            kind: {"fit": fits(made, made()), "loops": loops(made)}
            for kind, made in kinds.items()
        }
    found["tickets"] = tickets(splits["in memory"])
    return found
