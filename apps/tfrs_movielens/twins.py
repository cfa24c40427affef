"""The same training by Keras 3 and by TFRS, and weights between them."""

import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tf_keras

import keras_pep
import keras_pep.tfrs as pep

_EPOCHS, _RATE, _WIDTH = 6, 0.003, 32


def compare(
    data: keras_pep.data.Dataset, seed: int
) -> tuple[tuple[float, float], float]:
    """Trains a factorization machine with thresholds by either Keras.

    Args:
        data: Of which they are trained.
        seed: Of initial values and batches.

    Returns:
        Test AUC by Keras 3 and by `tf_keras`; and the largest difference of
        two predictions after the weights have moved from one to the other.
    """
    ours = _model(keras_pep, data, seed)
    ours.compile(
        keras_pep.optimizers.AdamL2(_RATE),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    _fit(ours, data, seed)
    scorer = _model(pep, data, seed)
    theirs = pep.RankingModel(scorer)
    theirs.compile(pep.optimizers.AdamL2(_RATE))
    _fit(theirs, data, seed)
    found = tuple(
        keras_pep.metrics.evaluate(model, data.test.ids, data.test.labels)
        for model in (ours, theirs)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "model.weights.h5"))
        ours.save_weights(path)
        scorer.load_weights(path)
    differences = np.abs(
        _probabilities(ours, data) - _probabilities(theirs, data)
    )
    return (found[0]["auc"], found[1]["auc"]), float(differences.max())


def _model(of: Any, data: keras_pep.data.Dataset, seed: int) -> Any:
    keras.utils.set_random_seed(seed)
    tf_keras.utils.set_random_seed(seed)
    model = of.models.FM(data.field_sizes, _WIDTH)
    model.build()
    return model


def _fit(model: Any, data: keras_pep.data.Dataset, seed: int) -> None:
    batches = keras_pep.data.batches(data.train, 1024, seed)
    model.fit(batches, epochs=_EPOCHS, shuffle=False, verbose=0)


def _probabilities(model: Any, data: keras_pep.data.Dataset) -> np.ndarray:
    logits = keras_pep.metrics.predict(model, data.test.ids)
    return np.asarray(1 / (1 + np.exp(-logits)))
