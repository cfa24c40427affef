import math

import keras
import numpy as np
import pytest

from keras_pep.callbacks import ExactValidation
from keras_pep.metrics import (
    auc,
    auc_difference_error,
    auc_error,
    log_loss,
    predict,
)


def test_auc_counts_pairs():
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 300)
    scores = random.integers(0, 20, 300)  # many ties
    positive, negative = scores[labels == 1], scores[labels == 0]
    wins = (positive[:, None] > negative).sum()
    ties = (positive[:, None] == negative).sum()
    expected = (wins + ties / 2) / (positive.size * negative.size)
    assert auc(labels, scores) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "scores"),
    [([1, 1], [0.1, 0.2]), ([0, 0], [0.1, 0.2]), ([0, 1], [0.1, math.nan])],
)
def test_auc_of_what_has_none_is_nan(labels, scores):
    assert math.isnan(auc(np.array(labels), np.array(scores)))


def test_log_loss_by_hand_and_at_extremes():
    assert log_loss(np.array([1, 0]), np.zeros(2)) == pytest.approx(math.log(2))
    # log(1 + exp(500)) overflows if taken literally.
    extremes = log_loss(np.array([1, 0, 0]), np.array([500.0, -500.0, 500.0]))
    assert extremes == pytest.approx(500 / 3)


@pytest.mark.parametrize("kind", [dict, tuple])
def test_a_model_of_several_inputs_is_predicted(kind):
    """In the order of rows, in batches that do not divide them."""
    inputs = [keras.Input((), name=name) for name in "ab"]
    given = dict(zip("ab", inputs, strict=True)) if kind is dict else inputs
    model = keras.Model(given, keras.layers.Subtract()(inputs)[:, None])
    a, b = np.arange(7.0), np.arange(7.0)[::-1]
    given = {"a": a, "b": b} if kind is dict else (a, b)
    assert predict(model, given, batch_size=2)[:, 0].tolist() == [*(a - b)]


def test_validation_is_in_the_logs_and_exact():
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
    random = np.random.default_rng(0)
    x = random.normal(size=(500, 1))
    y = (random.random(500) < 1 / (1 + np.exp(-3 * x[:, 0]))).astype("float32")
    history = model.fit(
        x, y[:, None], verbose=0, callbacks=[ExactValidation(x, y, 64)]
    ).history
    sign = float(np.sign(model.layers[-1].kernel.numpy()[0, 0]))
    assert history["val_auc"][-1] == pytest.approx(auc(y, sign * x[:, 0]))
    p = 1 / (1 + np.exp(-model.predict(x, verbose=0)[:, 0].astype("f8")))
    expected = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    assert history["val_logloss"][-1] == pytest.approx(expected, abs=1e-6)


def test_labels_may_be_a_column_and_lengths_must_agree():
    labels, scores = np.array([[0], [1], [1]]), np.array([-1.0, 0.5, 2.0])
    assert auc(labels, scores) == 1.0
    assert log_loss(labels, scores) == log_loss(labels[:, 0], scores)
    with pytest.raises(ValueError, match=r"\(3, 1\).*\(2,\)"):
        log_loss(labels, scores[:2])


def test_the_error_of_an_auc_is_that_of_other_samples():
    """The scores are normal: the formula is up to a fifth too large then."""
    random = np.random.default_rng(0)
    labels = np.arange(400) % 4 == 0

    def drawn():
        return auc(labels, random.normal(size=400) + labels)

    found = [drawn() for _ in range(500)]
    error = auc_error(labels, float(np.mean(found)))
    assert error == pytest.approx(np.std(found), rel=0.2)
    assert np.isnan(auc_error(np.ones(3), 0.5))


def test_the_error_of_a_difference_is_that_of_other_samples():
    """The two models share most of their noise."""
    random = np.random.default_rng(0)
    labels = np.arange(400) % 4 == 0
    differences, errors = [], []
    for _ in range(400):
        shared = random.normal(size=400) + labels
        pair = [shared + 0.3 * random.normal(size=400) for _ in range(2)]
        differences.append(auc(labels, pair[0]) - auc(labels, pair[1]))
        errors.append(auc_difference_error(labels, *pair))
    assert np.mean(errors) == pytest.approx(np.std(differences), rel=0.1)
    scores = np.round(random.normal(size=400) + labels)  # with ties
    assert auc_difference_error(labels, scores, scores) == 0
