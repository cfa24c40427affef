"""Either Keras alone, and what happens if `tf.keras` is the wrong one."""

import importlib.util
import json
import os

import pytest

from keras_pep.tfrs import legacy
from tests.backends import python

BOTH = """
import keras, keras_pep
import numpy as np
twin = keras_pep.models.FM([3, 2], 4)
twin.build()
import keras_pep.tfrs as pep
import tensorflow as tf, tf_keras
assert issubclass(tf.keras.Model, tf_keras.Model)
model = pep.RankingModel(pep.models.FM([3, 2], 4))
model.build()
model.scorer.save_weights("w.weights.h5")
twin.load_weights("w.weights.h5")
ids = np.array([[0, 1], [2, 0]])
assert np.allclose(twin.predict(ids, verbose=0), model.predict(ids, verbose=0))
"""
ALONE = """
import keras_pep.tfrs as pep
import numpy as np, tf_keras
model = pep.RankingModel(pep.models.FM([3, 2], 4))
model.compile(pep.optimizers.LazyAdam())
ids, labels = np.array([[0, 1], [2, 0]]), np.array([[0.0], [1.0]])
model.fit(ids, labels, verbose=0)
model.save("m.keras")
again = tf_keras.models.load_model("m.keras")
assert np.array_equal(
    again.predict(ids, verbose=0), model.predict(ids, verbose=0)
)
"""
KERAS_3 = """
import sys, keras, keras_pep
import numpy as np, tensorflow as tf
model = keras_pep.models.FM([3, 2], 4)
model.compile(keras_pep.optimizers.LazyAdam(), "mse")
model.fit(np.array([[0, 1], [2, 0]]), np.zeros((2, 1)), verbose=0)
assert issubclass(tf.keras.Model, keras.Model)
assert not [m for m in sys.modules if m.split(".")[0] == "tf_keras"]
"""
TOO_LATE = """
import tensorflow as tf
tf.keras.layers.Layer
import keras_pep.tfrs
"""


# With other variables, and what the last error says, if there is one.
FRESH = [
    (ALONE, {}, ""),
    (
        *("import keras_pep.tfrs", {"KERAS_BACKEND": "jax"}),
        "set KERAS_BACKEND=tensorflow. Found: jax",
    ),
]
# After TensorFlow, which imports Keras 3, but leaves `tf.keras` alone.
AFTER_TENSORFLOW = [
    (BOTH, {}, ""),
    (KERAS_3, {}, ""),
    (TOO_LATE, {}, "or import keras_pep.tfrs before anything uses"),
    (
        *("import keras_pep.tfrs", {"TF_USE_LEGACY_KERAS": "0"}),
        "TF_USE_LEGACY_KERAS='0' makes `tf.keras`",
    ),
]
# Runs each program in a process of its own.
FORKS = """
import json, os, sys, traceback

ended = []
for programs in json.load(sys.stdin):
    for code, variables, _ in programs:
        child = os.fork()
        if not child:
            os.environ.update(variables)
            try:
                exec(code, {})
            except BaseException:
                with open("error", "w") as file:
                    traceback.print_exc(file=file)
                os._exit(1)
            os._exit(0)
        failed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        ended.append(open("error").read() if failed else "")
    import tensorflow  # once, for the programs that follow
print(json.dumps(ended))
"""


@pytest.mark.slow
def test_either_keras_alone_and_the_wrong_one(tmp_path):
    kept = {k: v for k, v in os.environ.items() if "KERAS" not in k}
    done = python(
        *("-c", FORKS),
        input=json.dumps([FRESH, AFTER_TENSORFLOW]),
        cwd=tmp_path,
        env={**kept, "PYTHONPATH": os.getcwd()},  # noqa: PTH109
    )
    errors = json.loads(done.stdout.splitlines()[-1])
    for error, (*_, message) in zip(
        errors, FRESH + AFTER_TENSORFLOW, strict=True
    ):
        if not message:
            assert error == ""
            continue
        last = error.strip().splitlines()[-1]
        assert last.startswith("ImportError: ")
        assert message in last


def test_what_is_not_installed_is_said(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"pip install 'keras-pep\[tfrs\]'"):
        legacy.use()
