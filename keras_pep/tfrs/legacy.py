"""Makes `tf.keras` the Keras that TensorFlow Recommenders runs on."""

import importlib.util
import os

import keras

_VARIABLE = "TF_USE_LEGACY_KERAS"
_FIRST = (
    "Set the environment variable TF_USE_LEGACY_KERAS=1, or import "
    "keras_pep.tfrs before anything uses `tf.keras`."
)


def use() -> None:
    """Make `tf.keras` mean `tf_keras`, if nothing has used it yet.

    Raises:
        ImportError: If packages are missing, Keras 3 does not run on
            TensorFlow, or `tf.keras` is Keras 3 already.
    """
    missing = [
        package
        for package in ("tf_keras", "tensorflow_recommenders")
        if importlib.util.find_spec(package) is None
    ]
    if missing:
        raise ImportError(
            "keras_pep.tfrs needs TensorFlow Recommenders: "
            "pip install 'keras-pep[tfrs]'. "
            f"Not installed: {', '.join(missing)}"
        )
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ImportError(
            "TensorFlow Recommenders runs on TensorFlow alone: set "
            f"KERAS_BACKEND=tensorflow. Found: {backend}"
        )
    found = os.environ.setdefault(_VARIABLE, "1")
    if found not in ("1", "true", "True"):
        raise ImportError(
            "TensorFlow Recommenders does not run on Keras 3, which "
            f"{_VARIABLE}={found!r} makes `tf.keras`. {_FIRST}"
        )
    import tensorflow as tf
    import tf_keras

    if not issubclass(tf.keras.layers.Layer, tf_keras.layers.Layer):
        raise ImportError(
            "TensorFlow Recommenders does not run on Keras 3, which `tf.keras` "
            f"already is in this process. {_FIRST}"
        )
