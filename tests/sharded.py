"""A model on one device or on eight: a program for processes with JAX.

Prints what it has found as JSON. Blocks are small, so that a small table is
treated as a large one.
"""

import json
import sys
from pathlib import Path

import jax
import keras
import numpy as np
from keras.src.backend.jax import core

import keras_pep
from keras_pep.layers import initial, variables
from keras_pep.pruning.search import make_collector

FIELDS, ROWS, DIM = (4096, 4096), 8192, 16
BATCH, STEPS = 64, 20


class Batches(keras.utils.PyDataset):
    """The same ids on every device count; some rows are never looked up."""

    def __init__(self):
        super().__init__()
        random = np.random.default_rng(0)
        size = (STEPS * BATCH, len(FIELDS))
        self.ids = (random.zipf(1.2, size) % 4096).astype("int32")
        self.labels = (self.ids.sum(axis=1, keepdims=True) % 2).astype(
            "float32"
        )

    def __len__(self):
        return STEPS

    def __getitem__(self, n):
        rows = slice(BATCH * n, BATCH * n + BATCH)
        return self.ids[rows], self.labels[rows]


class Watch(keras.callbacks.Callback):
    """Losses of steps, and the most that any device holds after them."""

    def on_train_begin(self, logs=None):
        self.losses, self.most = [], 0

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(float(logs["loss"]))
        self.most = max(self.most, *held().values())


def held():
    """Bytes of all arrays, by the device they are on."""
    # By place, since a part of an array is an array too.
    parts = {
        (shard.device, shard.data.unsafe_buffer_pointer()): shard.data
        for array in jax.live_arrays()
        for shard in array.addressable_shards
    }
    found = dict.fromkeys(jax.devices(), 0)
    for (device, _), part in parts.items():
        found[device] += part.nbytes
    return found


def model_of(optimizer, granularity="feature_dimension", initializer=None):
    random = keras.initializers.RandomUniform(seed=1)
    layer = keras_pep.PEPEmbedding(
        *(ROWS, DIM),
        granularity=granularity,
        threshold_init=-4.0,
        embeddings_initializer=initializer or random,
        name="table",
    )
    model = keras_pep.models.FM(FIELDS, DIM, layer)
    model.build()
    model.compile(
        getattr(keras_pep.optimizers, optimizer)(0.01, l2=1e-3),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return model


def layouts(variables):
    """How many bytes of each variable the first device holds, and in all."""
    return {
        variable.path.split("/", 1)[1]: [
            variable.value.addressable_shards[0].data.nbytes,
            variable.value.nbytes,
        ]
        for variable in variables
    }


def one_threshold_a_column():
    """Dense updates, and thresholds that all devices have."""
    model, watch = model_of("AdamL2", "dimension"), Watch()
    model.fit(Batches(), verbose=0, shuffle=False, callbacks=[watch])
    scores = model.predict(Batches().ids[:BATCH], verbose=0)
    return {
        "losses": watch.losses,
        "layouts": layouts(model.variables),
        "scores": scores[:, 0].tolist(),
        "kept": model.embedding.nonzero_parameters(),
    }


def search_and_retrain(folder):
    searched = model_of("LazyAdam")
    tickets = keras_pep.search(
        searched, Batches(), budgets=[20_000, 2_000], epochs=1
    )
    for number, ticket in enumerate(tickets):
        ticket.save(folder / f"{number}.npz")
    watch = Watch()
    small = keras_pep.retrain(
        searched, tickets[-1], Batches(), epochs=1, callbacks=[watch]
    )
    small.save(folder / "small.keras")
    return {"losses": watch.losses, "layouts": layouts(small.variables)}


def in_one_fit(folder):
    model, watch = model_of("LazyAdam"), Watch()
    retraining = keras_pep.callbacks.PEPRetraining(
        2_000, search_epochs=1, monitor="loss"
    )
    model.fit(
        Batches(),
        epochs=2,
        verbose=0,
        shuffle=False,
        callbacks=[retraining, watch],
    )
    retraining.ticket.save(folder / "fit.npz")
    keras_pep.pruned_model(model).save(folder / "fit.keras")
    return {
        "losses": watch.losses,
        "layouts": layouts([*model.variables, *model.optimizer.variables]),
        "most": watch.most,
    }


def refusal():
    """What is said of a table that eight devices cannot share."""
    try:
        keras_pep.PEPEmbedding(ROWS - 3, DIM, name="odd").build()
    except ValueError as error:
        return str(error)
    return ""


def rounded_another_way():
    """How many normal values XLA rounds so when a table is made of them.

    A search must begin all the same.
    """
    normal = keras.initializers.RandomNormal(seed=1)
    model = model_of("LazyAdam", initializer=normal)
    collector = make_collector("paper", [2_000], 1)
    collector.set_model(model)
    collector.on_train_begin()
    layer = model.embedding
    pairs = zip(layer.embedding_blocks(), layer.initial_blocks(), strict=True)
    return sum(int((one != other).sum()) for one, other in pairs)


def divide(mesh=None):
    keras.distribution.set_distribution(
        keras_pep.distribution.RowParallel(mesh)
    )


def main(kind, folder):
    folder, fetched = Path(folder), [0]
    sharded = kind == "sharded"
    if sharded:
        divide()
        # As it is with tables of some size.
        core.should_shard_at_init = lambda _, shape: ROWS in shape
    keras_pep.blocks.ENTRIES_AT_ONCE = initial._ENTRIES_DRAWN = 2**14
    initial.LARGE = variables.LARGE = 2**14

    of_array = type(jax.numpy.zeros(1))
    to_numpy = of_array.__array__

    def counted(array, *args, **kwargs):
        fetched[0] = max(fetched[0], array.size)
        return to_numpy(array, *args, **kwargs)

    of_array.__array__ = counted
    found = {
        "in_one_fit": in_one_fit(folder),
        "search_and_retrain": search_and_retrain(folder),
        "largest_fetched": fetched[0],
    }
    if sharded:
        found["refusal"] = refusal()
        found["rounded_another_way"] = rounded_another_way()
        # Batches are divided, too.
        divide(keras.distribution.DeviceMesh((8,), ("all",)))
    found["one_threshold_a_column"] = one_threshold_a_column()
    json.dump(found, sys.stdout)
