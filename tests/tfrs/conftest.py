"""Before any test has used `tf.keras`, which then is the legacy one."""

import numpy as np
import pytest

import keras_pep.tfrs  # noqa: F401

SIZES = (30, 20, 10)


@pytest.fixture(autouse=True)
def _reproducible_too():
    import tf_keras

    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(0)


@pytest.fixture
def rows():
    """Ids of three fields, and labels that a linear model can learn."""
    random = np.random.default_rng(0)
    ids = np.stack(
        [random.integers(0, size, 2000) for size in SIZES], axis=1
    ).astype(np.int32)
    weights = [random.normal(size=size) for size in SIZES]
    logits = sum(w[column] for w, column in zip(weights, ids.T, strict=True))
    return ids, (logits > 0).astype(np.float32)[:, None]
