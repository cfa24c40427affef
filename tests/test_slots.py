"""A compiled model goes from one backend to another with its optimizer."""

import importlib.util
import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.slow

# In half precision Keras wraps the optimizer in one that scales the loss.
POLICIES = ["float32", "mixed_float16"]
OPTIMIZERS = ["LazyAdam", "RowwiseAdagrad"]
# Saves models after five steps; then, when all backends have done so, loads
# those of every backend, one step each.
PROGRAM = """
import itertools, json, os, sys, warnings
if os.environ["KERAS_BACKEND"] != "tensorflow":
    sys.modules["tensorflow"] = None  # must not be needed
else:  # a model makes six steps
    import tensorflow as tf
    tf.config.run_functions_eagerly(True)
import keras, numpy as np
import keras_pep

warnings.filterwarnings("error", "Skipping variable")  # of an optimizer
folder, optimizers, policies, backends = sys.argv[1:]
kinds = [*itertools.product(optimizers.split(","), policies.split(","))]
random = np.random.default_rng(0)
ids = random.integers(0, 20, (64, 2)).astype("int32")
labels = (ids.sum(axis=1, keepdims=True) % 2).astype("float32")
own = keras.backend.backend()

def step(model, name):
    slots = [[v.path.split("/")[-1], list(v.shape)]
             for v in model.optimizer.variables]
    model.train_on_batch(ids[40:], labels[40:])
    values = [*model.weights, *model.optimizer.variables]
    np.savez(f"{folder}/{name}.npz", *(np.asarray(v.numpy()) for v in values))
    return slots

found = {}
for optimizer, policy in kinds:
    keras.backend.clear_session()  # so that each has the same names
    table = keras_pep.PEPEmbedding(
        *(40, 4, "glorot_uniform"), granularity="feature_dimension",
        name="embedding", dtype=policy
    )
    model = keras_pep.models.FM((20, 20), 4, table, dtype=policy)
    model.build()
    for weight in model.trainable_weights:
        if weight.name != "threshold_logits":
            weight.assign(random.normal(0, 0.2, weight.shape))
    model.compile(
        getattr(keras_pep.optimizers, optimizer)(0.01, l2=1e-3),
        keras.losses.BinaryCrossentropy(from_logits=True),
        jit_compile=False,
    )
    for n in range(0, 40, 8):
        model.train_on_batch(ids[n : n + 8], labels[n : n + 8])
    kind = f"{optimizer}-{policy}"
    model.save(f"{folder}/{kind}-{own}.keras")
    found[kind] = step(model, f"{kind}-{own}")
print(json.dumps(found), flush=True)
sys.stdin.readline()
for (optimizer, policy), saved in itertools.product(kinds, backends.split(",")):
    kind = f"{optimizer}-{policy}"
    model = keras.saving.load_model(f"{folder}/{kind}-{saved}.keras")
    step(model, f"{kind}-{own}-loads-{saved}")
"""
BACKENDS = [
    name
    for name in ("tensorflow", "jax", "torch")
    if importlib.util.find_spec(name) is not None
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The slots of each backend, and the folder of what it has saved."""
    folder = tmp_path_factory.mktemp("slots")
    settings = [",".join(names) for names in (OPTIMIZERS, POLICIES, BACKENDS)]
    started = {
        backend: subprocess.Popen(
            [sys.executable, "-c", PROGRAM, folder, *settings],
            env={**os.environ, "KERAS_BACKEND": backend},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for backend in BACKENDS
    }
    found = {
        backend: json.loads(process.stdout.readline())
        for backend, process in started.items()
    }
    for process in started.values():
        process.communicate("\n", timeout=300)
        assert process.returncode == 0
    return found, folder


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("policy", POLICIES)
def test_the_slots_are_the_same_on_every_backend(saved, optimizer, policy):
    found, _ = saved
    kind = f"{optimizer}-{policy}"
    slots = found["tensorflow"][kind]
    for others in found.values():
        assert others[kind] == slots
    adam = optimizer == "LazyAdam"
    kinds = ("momentum", "velocity") if adam else ("accumulator",)
    shapes = [shape for _, shape in slots if shape]
    # Table, thresholds and first-order weights, where Adagrad has one number
    # for a row; the bias; the last steps.
    of_row = [40, 4] if adam else [40, 1]
    expected = [of_row, of_row, [40, 1], [1]]
    last_steps = [[40, 1], [40, 1]]
    assert shapes == [x for x in expected for _ in kinds] + last_steps
    assert sum(name.endswith(kinds[0]) for name, _ in slots) == 4


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("policy", POLICIES)
def test_training_goes_on_on_another_backend(saved, optimizer, policy):
    """One step more is that of the run that was never saved."""
    _, folder = saved
    # A step of 0.01; float16 gradients are rounded by 1e-3.
    close = 1e-6 if policy == "float32" else 1e-4
    for one, other in itertools.product(BACKENDS, BACKENDS):
        name = f"{optimizer}-{policy}-{one}"
        whole = np.load(folder / f"{name}.npz")
        loaded = np.load(
            folder / f"{optimizer}-{policy}-{other}-loads-{one}.npz"
        )
        assert loaded.files == whole.files
        for each in whole.files:
            np.testing.assert_allclose(
                loaded[each], whole[each], rtol=1e-5, atol=close
            )
