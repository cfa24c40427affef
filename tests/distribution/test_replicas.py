"""The same search by one process, by two replicas in it, and by two of them."""

import functools
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_pep
from keras_pep.distribution.replicas import prepare
from tests.backends import devices, run_on, skip_without
from tests.workers import environments

pytestmark = pytest.mark.slow

# Searches with LazyAdam, retrains with RowwiseAdagrad; does both in one `fit`
# with AdamL2.
PROGRAM = """
import contextlib, json, os, sys
modes, path = sys.argv[1:]
import tensorflow as tf

# What runs for some steps is not worth it.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
(cpu,) = tf.config.list_physical_devices("CPU")
if modes == "workers":
    strategies = {modes: tf.distribute.MultiWorkerMirroredStrategy()}
else:
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    strategies = {"one": None, "mirrored": mirrored}

import keras, numpy as np
import keras_pep
from keras_pep.distribution import replicas

random = np.random.default_rng(0)
ids = random.integers(0, 50, size=(30 * 64 + 37, 2)).astype("int32")
ids[:, 0] = random.zipf(1.5, size=len(ids)).clip(max=50) - 1  # some are rare
labels = (ids.sum(axis=1, keepdims=True) % 2 == 0).astype("float32")
# The last batch cannot be divided by two.
train = tf.data.Dataset.from_tensor_slices((ids, labels)).batch(64)
loss = keras.losses.BinaryCrossentropy(from_logits=True)

def values(model):
    return [np.asarray(weight.numpy()) for weight in model.weights]

def table_sized(model):
    # Operations of a step that give as many rows as the table has.
    batch = tf.constant(ids[:64]), tf.constant(labels[:64])
    traced = model.train_function.step.get_concrete_function(batch)
    graph = traced.graph.as_graph_def(add_shapes=True)
    parts = [graph.node, *(f.node_def for f in graph.library.function)]
    return sorted({
        node.op for nodes in parts for node in nodes
        for shape in node.attr["_output_shapes"].list.shape
        if len(shape.dim) == 2 and shape.dim[0].size == 103
    })

def outcome(mode, strategy):
    worker = strategy.cluster_resolver.task_id if mode == "workers" else 0

    def model(optimizer, kind, rate, **settings):
        keras.utils.set_random_seed(0)
        with strategy.scope() if strategy else contextlib.nullcontext():
            model = kind((50, 53), 8, **settings)
            if kind is not keras_pep.models.FM:  # that the search has to build
                model.build()
            model.compile(
                *(optimizer(rate, l2=1e-4), loss), steps_per_execution=3,
                weighted_metrics=[keras.metrics.MeanSquaredError()],
            )
        return model

    one = model(keras_pep.optimizers.LazyAdam, keras_pep.models.FM, 0.02)
    (ticket,) = keras_pep.search(one, train, (ids, labels), [200], epochs=3)
    small = keras_pep.retrain(
        *(one, ticket, train), epochs=2,
        optimizer=keras_pep.optimizers.RowwiseAdagrad(0.1, l2=1e-4),
    )
    # Normalized by the batch.
    two = model(
        *(keras_pep.optimizers.AdamL2, keras_pep.models.DeepFM, 0.002),
        hidden_units=(8,), dropout=0.0,
    )
    replicas.prepare(two)
    callback = keras_pep.callbacks.PEPRetraining(200, search_epochs=1)
    two.fit(train.take(30), validation_data=(ids, labels), epochs=2, verbose=0,
            shuffle=False, callbacks=[callback])

    weights = [*values(one), *values(small), *values(two)]
    copies = [
        getattr(value, "values", [value])
        for m in (one, small, two)
        for variable in (*m.variables, *m.optimizer.variables)
        # Both moments of a table are columns of one slot.
        for value in [getattr(variable, "variable", variable).value]
    ]
    disagreed = False
    try:
        replicas.agree(strategy, "their numbers", worker)
    except replicas.WorkersDisagreeError:
        disagreed = True
    replicas.agree(strategy, "a number", 1.5)
    np.savez(
        f"{path}/{mode}-{worker}.npz", ticket.tables["embedding"].mask(),
        *weights,
    )
    return mode, worker, {
        "chief": replicas.is_chief(strategy),
        "workers": replicas.worker_count(strategy),
        "disagreed": disagreed,
        "steps": [ticket.step, callback.ticket.step],
        "kept": [ticket.embedding_parameters, small.embedding.num_values],
        "val_loss": one.history.history["val_loss"],
        "errors": one.history.history["mean_squared_error"],
        "scores": keras_pep.metrics.evaluate(small, ids, labels),
        "lazy": table_sized(one) if strategy else None,
        "dense": table_sized(two) if strategy else None,
        "same_copies": all(
            np.array_equal(copy[0].numpy(), other.numpy())
            for copy in copies for other in copy[1:]
        ),
    }

print(json.dumps([outcome(*each) for each in strategies.items()]))
"""


@functools.cache
def outcomes(folder):
    """Of one process, of two replicas in one, of two: figures and arrays."""
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, modes, folder],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for modes, environment in (
            ("one,mirrored", quiet),
            *(("workers", each) for each in environments()),
        )
    ]
    found = {}
    for process in started:
        out, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-2000:]
        for mode, worker, figures in json.loads(out.splitlines()[-1]):
            arrays = np.load(folder / f"{mode}-{worker}.npz")
            found[mode, worker] = figures, arrays
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("replicas")


EVERY = [("mirrored", 0), ("workers", 0), ("workers", 1)]


@pytest.mark.parametrize("which", EVERY)
def test_replicas_do_what_one_process_does(which, folder):
    expected, expected_arrays = outcomes(folder)["one", 0]
    found, arrays = outcomes(folder)[which]
    assert found["steps"] == expected["steps"]
    assert found["kept"] == expected["kept"]
    assert expected["kept"] == [200, 200]
    mask, *weights = (arrays[name] for name in arrays.files)
    expected_mask, *others = (
        expected_arrays[name] for name in expected_arrays.files
    )
    np.testing.assert_array_equal(mask, expected_mask)
    assert len(weights) == len(others)
    for weight, other in zip(weights, others, strict=True):
        # Sums of gradients in another order, in float32, and Adam divides
        # small ones by their own size: 1e-3 of a step of 0.02.
        np.testing.assert_allclose(weight, other, rtol=0, atol=2e-5)
    assert found["scores"] == pytest.approx(expected["scores"], abs=1e-5)
    # The last batch counts as 38 rows of 1,958, not as 37 of 1,957.
    assert found["errors"] == pytest.approx(expected["errors"], rel=1 / 1957)


@pytest.mark.parametrize("which", EVERY)
def test_the_copies_of_replicas_are_the_same(which, folder):
    assert outcomes(folder)[which][0]["same_copies"]


@pytest.mark.parametrize("which", EVERY)
def test_sparse_gradients_stay_sparse(which, folder):
    found = outcomes(folder)[which][0]
    assert found["lazy"] == []
    # L2 acts on every row with this one, so that the test can see some.
    assert "Sqrt" in found["dense"]


def test_workers_have_the_very_same_results(folder):
    one, other = (outcomes(folder)["workers", n] for n in (0, 1))
    for name in one[1].files:
        np.testing.assert_array_equal(one[1][name], other[1][name])
    assert one[0].pop("chief")
    assert not other[0].pop("chief")
    assert one[0] == other[0]
    assert one[0]["workers"] == 2


def test_workers_notice_that_they_disagree(folder):
    disagreed = {k: v[0]["disagreed"] for k, v in outcomes(folder).items()}
    assert disagreed == {
        ("one", 0): False,
        ("mirrored", 0): False,
        ("workers", 0): True,
        ("workers", 1): True,
    }


ON_JAX = """
import json, sys
sys.modules["tensorflow"] = None  # must not be needed
import keras, numpy as np
import keras_pep

random = np.random.default_rng(0)
ids = random.integers(0, 50, size=(30 * 64 + 37, 2)).astype("int32")
labels = (ids.sum(axis=1) % 2 == 0).astype("float32")
split = keras_pep.data.Split(ids, labels)

def outcome(devices):
    train = keras_pep.data.batches(split, 64, seed=0)
    keras.utils.set_random_seed(0)
    model = keras_pep.models.FM((50, 53), 8)
    model.build()
    model.compile(
        keras_pep.optimizers.LazyAdam(0.02, l2=1e-4),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    (ticket,) = keras_pep.search(model, train, budgets=[200], epochs=3)
    small = keras_pep.retrain(
        *(model, ticket, train), epochs=2,
        optimizer=keras_pep.optimizers.RowwiseAdagrad(0.1, l2=1e-4),
    )
    np.savez(
        f"{sys.argv[1]}/{devices}.npz",
        ticket.tables["embedding"].mask(),
        keras_pep.metrics.predict(small, ids),
        *(np.asarray(w.numpy()) for w in (*model.weights, *small.weights)),
    )
    return [ticket.step, len(model.embedding.embeddings.value.devices())]

found = [outcome(1)]
keras.distribution.set_distribution(keras.distribution.DataParallel())
print(json.dumps([*found, outcome(2)]))
"""


def test_devices_of_jax_do_what_one_does(folder):
    skip_without("jax")
    (step, alone), (step_of_two, copies) = run_on(
        *("jax", "-c", ON_JAX, folder), env=devices(2)
    )
    assert step == step_of_two
    assert (alone, copies) == (1, 2)
    one, two = (np.load(folder / f"{number}.npz") for number in (1, 2))
    assert one.files == two.files
    for name in one.files:  # the first is the mask
        np.testing.assert_allclose(
            one[name].astype("float32"),
            two[name].astype("float32"),
            rtol=0,
            atol=2e-5,  # as above
        )


def test_a_loss_that_is_no_mean_is_refused():
    tf = pytest.importorskip("tensorflow")
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = keras_pep.models.FM((5, 5), 2)
        model.build()
        model.compile("adam", keras.losses.BinaryCrossentropy(reduction="sum"))
    with pytest.raises(ValueError, match="reduction='sum'"):
        prepare(model)
