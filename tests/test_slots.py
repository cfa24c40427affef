"""A compiled model goes from one backend to another with its optimizer."""

import functools
import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.slow

# Saves a model after five steps; loads those of all backends, one step each.
PROGRAM = """
import json, os, sys, warnings
if os.environ["KERAS_BACKEND"] != "tensorflow":
    sys.modules["tensorflow"] = None  # must not be needed
import keras, numpy as np
import keras_pep

warnings.filterwarnings("error", "Skipping variable")  # of an optimizer
folder, what, optimizer = sys.argv[1:]
random = np.random.default_rng(0)
ids = random.integers(0, 20, (64, 2)).astype("int32")
labels = (ids.sum(axis=1, keepdims=True) % 2).astype("float32")

def step(model, name):
    slots = [[v.path.split("/")[-1], list(v.shape)]
             for v in model.optimizer.variables]
    model.train_on_batch(ids[40:], labels[40:])
    values = [*model.weights, *model.optimizer.variables]
    np.savez(f"{folder}/{name}.npz", *(np.asarray(v.numpy()) for v in values))
    return slots

own = keras.backend.backend()
found = {}
for policy in ("float32", "mixed_float16"):
    for saved in what.split(","):
        if saved:
            path = f"{folder}/{policy}-{saved}.keras"
            model = keras.saving.load_model(path)
            found[policy] = step(model, f"{policy}-{own}-loads-{saved}")
            continue
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
        model.save(f"{folder}/{policy}-{own}.keras")
        found[policy] = step(model, f"{policy}-{own}")
print(json.dumps(found))
"""
BACKENDS = [
    name
    for name in ("tensorflow", "jax", "torch")
    if importlib.util.find_spec(name) is not None
]


# In half precision Keras wraps the optimizer in one that scales the loss.
POLICIES = ["float32", "mixed_float16"]


@functools.cache
def outcomes(folder, what):
    """What the program prints on every backend, all at once."""
    started = {
        backend: subprocess.Popen(
            [sys.executable, "-c", PROGRAM, folder, what, folder.name],
            env={**os.environ, "KERAS_BACKEND": backend},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for backend in BACKENDS
    }
    found = {}
    for backend, process in started.items():
        out, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-2000:]
        found[backend] = json.loads(out.splitlines()[-1])
    return found


@pytest.fixture(scope="module", params=["LazyAdam", "RowwiseAdagrad"])
def folder(request, tmp_path_factory):
    """A folder with the name of an optimizer."""
    return tmp_path_factory.mktemp(request.param, numbered=False)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_slots_are_the_same_on_every_backend(folder, policy):
    found = outcomes(folder, "")
    slots = found["tensorflow"][policy]
    for others in found.values():
        assert others[policy] == slots
    adam = folder.name == "LazyAdam"
    kinds = ("momentum", "velocity") if adam else ("accumulator",)
    shapes = [shape for _, shape in slots if shape]
    # Table, thresholds and first-order weights, where Adagrad has one number
    # for a row; the bias; the last steps.
    of_row = [40, 4] if adam else [40, 1]
    expected = [of_row, of_row, [40, 1], [1]]
    last_steps = [[40, 1], [40, 1]]
    assert shapes == [x for x in expected for _ in kinds] + last_steps
    assert sum(name.endswith(kinds[0]) for name, _ in slots) == 4


@pytest.mark.parametrize("policy", POLICIES)
def test_training_goes_on_on_another_backend(folder, policy):
    """One step more is that of the run that was never saved."""
    outcomes(folder, "")
    outcomes(folder, ",".join(BACKENDS))
    for saved in BACKENDS:
        whole = np.load(folder / f"{policy}-{saved}.npz")
        for backend in BACKENDS:
            name = f"{policy}-{backend}-loads-{saved}.npz"
            loaded = np.load(folder / name)
            assert loaded.files == whole.files
            for each in whole.files:
                # A step of 0.01; float16 gradients are rounded by 1e-3.
                close = 1e-6 if policy == "float32" else 1e-4
                np.testing.assert_allclose(
                    loaded[each], whole[each], rtol=1e-5, atol=close
                )
