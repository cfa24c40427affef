"""Either Keras alone, and what happens if `tf.keras` is the wrong one."""

import importlib.util
import os
import subprocess
import sys

import pytest

from keras_pep.tfrs import legacy

pytestmark = pytest.mark.slow

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


def run(code, tmp_path, **variables):
    kept = {k: v for k, v in os.environ.items() if "KERAS" not in k}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**kept, "PYTHONPATH": os.getcwd(), **variables},  # noqa: PTH109
        check=False,
    )


@pytest.mark.parametrize("code", [BOTH, ALONE, KERAS_3])
def test_in_a_process_of_its_own(code, tmp_path):
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("code", "variables", "message"),
    [
        (TOO_LATE, {}, "or import keras_pep.tfrs before anything uses"),
        (
            "import keras_pep.tfrs",
            {"TF_USE_LEGACY_KERAS": "0"},
            "TF_USE_LEGACY_KERAS='0' makes `tf.keras`",
        ),
        (
            "import keras_pep.tfrs",
            {"KERAS_BACKEND": "jax"},
            "set KERAS_BACKEND=tensorflow. Found: jax",
        ),
    ],
)
def test_what_stands_in_the_way_is_said(code, variables, message, tmp_path):
    done = run(code, tmp_path, **variables)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert message in last


def test_what_is_not_installed_is_said(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"pip install 'keras-pep\[tfrs\]'"):
        legacy.use()
