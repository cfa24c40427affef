"""Either Keras alone, and what happens if `tf.keras` is the wrong one."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from keras_pep.tfrs import legacy

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


# What is in the way, and what is said of it.
REFUSED = [
    (TOO_LATE, {}, "or import keras_pep.tfrs before anything uses"),
    (
        *("import keras_pep.tfrs", {"TF_USE_LEGACY_KERAS": "0"}),
        "TF_USE_LEGACY_KERAS='0' makes `tf.keras`",
    ),
    (
        *("import keras_pep.tfrs", {"KERAS_BACKEND": "jax"}),
        "set KERAS_BACKEND=tensorflow. Found: jax",
    ),
]
# Runs each program in a process of its own, where nothing has used `tf.keras`.
FORKS = """
import json, os, sys, traceback
import tensorflow

ended = []
for code, variables in json.load(sys.stdin):
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
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    ended.append([status, open("error").read() if status else ""])
print(json.dumps(ended))
"""


@pytest.mark.slow
def test_either_keras_alone_and_the_wrong_one(tmp_path):
    kept = {k: v for k, v in os.environ.items() if "KERAS" not in k}
    right = [(code, {}) for code in (BOTH, ALONE, KERAS_3)]
    wrong = [(code, variables) for code, variables, _ in REFUSED]
    done = subprocess.run(
        [sys.executable, "-c", FORKS],
        input=json.dumps(right + wrong),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**kept, "PYTHONPATH": os.getcwd()},  # noqa: PTH109
        check=True,
    )
    ended = json.loads(done.stdout.splitlines()[-1])
    for status, error in ended[:3]:
        assert status == 0, error
    for (status, error), (*_, message) in zip(ended[3:], REFUSED, strict=True):
        assert status == 1
        last = error.strip().splitlines()[-1]
        assert last.startswith("ImportError: ")
        assert message in last


def test_what_is_not_installed_is_said(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"pip install 'keras-pep\[tfrs\]'"):
        legacy.use()
