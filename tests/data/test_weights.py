"""Weights of examples, from a column to losses and figures."""

import keras
import numpy as np
import pandas as pd
import pytest

from keras_pep import data, metrics
from keras_pep.data import Batches, DataError, batches
from keras_pep.models import LogisticRegression


@pytest.fixture
def own(tmp_path):
    """Rows with weights, some of them 0."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "user": np.arange(1000) % 7,
            "clicked": random.integers(0, 2, 1000),
            "pay": random.integers(0, 5, 1000) / 4,
        }
    )
    path = tmp_path / "own.csv"
    frame.to_csv(path, index=False)
    return path, frame


@pytest.mark.parametrize("in_memory", [0, 1 << 30])
def test_a_column_of_weights_equals_a_slow_version(own, in_memory):
    path, frame = own
    dataset = data.load(
        path, label="clicked", weight="pay", in_memory=in_memory
    )
    assert dataset.fields == ("user",)
    drawn = np.random.default_rng(0).random(1000)
    places = np.searchsorted([0.8, 0.9], drawn, "right")
    for n, split in enumerate(dataset.splits.values()):
        expected = frame["pay"][places == n]
        np.testing.assert_array_equal(split.weights, expected)
        assert split.weights.dtype == np.float32
    without = data.load(path, label="clicked", fields=["user"])
    assert without.fingerprint() != dataset.fingerprint()
    # Every batch has the weights of its rows, the same on every way.
    for ids, labels, weights in Batches(dataset.train, 64, 0):
        assert ids.shape == (len(labels), 1)
        assert labels.shape == (len(labels), 1)
        assert weights.shape == (len(labels),)
    train = dataset.train
    pairs = zip(
        Batches(train, 64, 3),
        batches(dataset.train, 64, 3),
        strict=True,
    )
    for one, other in pairs:
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, keras.ops.convert_to_numpy(b))
    rows = np.concatenate([np.c_[i, y, w] for i, y, w in Batches(train, 64, 3)])
    expected = np.c_[train.ids[:], train.labels, train.weights]
    np.testing.assert_array_equal(
        rows[np.lexsort(rows.T)], expected[np.lexsort(expected.T)]
    )


@pytest.mark.parametrize("weight", ["-1", "", "much", "inf", "nan"])
def test_a_weight_that_is_none_is_malformed(own, weight):
    path, _ = own
    with path.open("a") as file:
        file.write(f"1,1,{weight}\n")
    with pytest.raises(DataError, match=r"row 1001: found .*, expected a we"):
        data.load(path, label="clicked", weight="pay", max_bad_rows=0)
    found = data.load(path, label="clicked", weight="pay", max_bad_rows=0.1)
    assert found.malformed == 1


def test_a_column_has_one_purpose(own):
    path, frame = own
    for arguments in ({"fields": ["user", "pay"]}, {"split": "time:pay"}):
        with pytest.raises(DataError, match="'pay' is the weight, and cannot"):
            data.load(path, label="clicked", weight="pay", **arguments)
    with pytest.raises(DataError, match="found no column 'paid', expected"):
        data.load(path, label="clicked", weight="paid")
    frame["pay"] *= frame["clicked"]
    frame.to_csv(path, index=False)
    with pytest.raises(DataError, match="rows of a weight above 0 for train, "):
        data.load(path, label="clicked", weight="pay")


def test_the_loss_is_weighted():
    random = np.random.default_rng(0)
    ids = random.integers(0, 5, (40, 1)).astype(np.int32)
    labels = random.integers(0, 2, 40).astype(np.float32)
    weights = random.random(40).astype(np.float32)
    model = LogisticRegression((5,))
    model.compile(
        keras.optimizers.SGD(1.0), keras.losses.BinaryCrossentropy(True)
    )
    before = model.predict(ids, verbose=0)[:, 0]
    rows = np.arange(5, dtype=np.int32)[:, None]
    old = model.predict(rows, verbose=0)[:, 0]
    made = batches(data.Split(ids, labels, weights), 40, 0)
    model.fit(made, shuffle=False, verbose=0)
    # The gradient of the mean of weighted losses, for each value and the bias.
    off = weights * (1 / (1 + np.exp(-before)) - labels) / 40
    steps = np.bincount(ids[:, 0], off, minlength=5) + off.sum()
    np.testing.assert_allclose(
        model.predict(rows, verbose=0)[:, 0], old - steps, atol=1e-6
    )


def slow_auc(labels, scores, weights):
    pairs = np.outer(weights * labels, weights * (1 - labels))
    wins = np.sign(scores[:, None] - scores[None]) / 2 + 0.5
    return (pairs * wins).sum() / pairs.sum()


def test_figures_equal_slow_versions():
    random = np.random.default_rng(1)
    labels = random.integers(0, 2, 300)
    scores = np.round(random.normal(size=300) + labels, 1)  # with ties
    weights = random.integers(0, 4, 300)
    auc = metrics.auc(labels, scores, weights)
    assert auc == pytest.approx(slow_auc(labels, scores, weights), abs=1e-12)
    repeated = [np.repeat(x, weights) for x in (labels, scores)]
    assert auc == pytest.approx(metrics.auc(*repeated), abs=1e-12)
    assert metrics.log_loss(labels, scores, weights) == pytest.approx(
        metrics.log_loss(*repeated), abs=1e-12
    )
    ones = np.ones((300, 1))
    assert metrics.auc(labels, scores, ones) == pytest.approx(
        metrics.auc(labels, scores), abs=1e-12
    )
    assert np.isnan(metrics.auc(labels, scores, labels))
    with pytest.raises(ValueError, match="one weight for each label"):
        metrics.auc(labels, scores, weights[:-1])


def test_errors_of_figures_are_those_of_repeated_draws():
    """The spread of many samples of rows with weights."""
    random = np.random.default_rng(2)
    found = []
    for _ in range(400):
        labels = np.repeat([0, 1], 150)
        scores = random.normal(size=300) + labels
        others = scores + random.normal(size=300)
        weights = random.exponential(size=300)
        one = metrics.auc(labels, scores, weights)
        other = metrics.auc(labels, others, weights)
        found.append(
            [
                one,
                one - other,
                metrics.auc_error(labels, one, weights),
                metrics.auc_difference_error(labels, scores, others, weights),
            ]
        )
    one, difference, error, of_difference = np.transpose(found)
    # A standard deviation of 400 draws is known to 1 / sqrt(800), 3.5 %.
    assert error.mean() == pytest.approx(one.std(), rel=0.12)
    assert of_difference.mean() == pytest.approx(difference.std(), rel=0.12)
    equal = np.full(300, 7.0)
    assert metrics.auc_error(labels, 0.7, equal) == pytest.approx(
        metrics.auc_error(labels, 0.7)
    )
    assert metrics.auc_difference_error(
        labels, scores, others, equal
    ) == pytest.approx(metrics.auc_difference_error(labels, scores, others))
