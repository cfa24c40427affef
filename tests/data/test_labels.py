"""Labels by rule, beside what pandas makes of them."""

import numpy as np
import pandas as pd
import pytest

from keras_pep import data
from keras_pep.data import DataError

RULES = {
    ">=4": lambda stars: stars >= 4,
    " > 3.5 ": lambda stars: stars > 3.5,
    "<=2": lambda stars: stars <= 2,
    "<2": lambda stars: stars < 2,
    "==5": lambda stars: stars == 5,
    "in 1, 5.0": lambda stars: stars.isin([1, 5]),
}


@pytest.fixture
def own(tmp_path):
    """Writes rows with labels of their own."""

    def write(labels):
        frame = pd.DataFrame({"user": np.arange(len(labels)) % 7, "y": labels})
        path = tmp_path / "own.csv"
        frame.to_csv(path, index=False)
        return path

    return write


def found_labels(dataset):
    """Labels of all splits, those of one after those of another."""
    return [split.labels for split in dataset.splits.values()]


def expected_labels(positive, seed=0):
    """The same of rows that are split by the seed."""
    drawn = np.random.default_rng(seed).random(len(positive))
    places = np.searchsorted([0.8, 0.9], drawn, "right")
    return [positive[places == n] for n in range(3)]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("written", [int, float])
def test_numbers_equal_a_slow_version(own, rule, written):
    stars = pd.Series(np.random.default_rng(0).integers(1, 6, 500))
    path = own(stars.astype(written))
    dataset = data.load(path, label="y", positive=rule)
    for found, expected in zip(
        found_labels(dataset), expected_labels(RULES[rule](stars)), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    assert dataset.fields == ("user",)


@pytest.mark.parametrize("rule", ["==click", "in click, buy"])
def test_words_equal_a_slow_version(own, rule):
    words = pd.Series(
        np.random.default_rng(0).choice(["click", "view", "buy", "Click"], 500)
    )
    dataset = data.load(own(words), label="y", positive=rule)
    positive = words.isin(["click"] if rule == "==click" else ["click", "buy"])
    for found, expected in zip(
        found_labels(dataset), expected_labels(positive), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("rule", [">=4", "==4"])
def test_missing_labels_are_malformed(own, rule):
    stars = [*(3, 4) * 200, None]
    dataset = data.load(own(stars), label="y", positive=rule, max_bad_rows=0.01)
    assert dataset.malformed == 1
    assert sum(len(split) for split in dataset.splits.values()) == 400
    with pytest.raises(DataError, match=r"found '' in column 'y', expected a"):
        data.load(own(stars), label="y", positive=rule)


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (
            [*range(1, 6)],
            "found '2' in column 'y', expected 0 or 1 .*Labels are 1, 2, 3, "
            "4, 5: .*--positive '>=4' for example",
        ),
        ([-1, 1], "Labels are -1, 1: .*--positive '>=1' for example"),
        (["no", "no", "yes"], "Labels are no, yes: .*--positive '==yes' for"),
    ],
)
def test_other_labels_are_an_error_that_suggests_a_rule(own, labels, found):
    with pytest.raises(DataError, match=found):
        data.load(own(labels * 40), label="y")


def test_a_rule_has_to_be_one(own):
    path = own([1, 2] * 50)
    for rule in ("4", "=>4", ">=many", "", "in ", "=="):
        with pytest.raises(DataError, match=r"found the rule .*'in yes,true'"):
            data.load(path, label="y", positive=rule)


def test_several_labels_are_refused(own):
    path = own([1, 2] * 50)
    for label in ("user,y", ["user", "y"]):
        with pytest.raises(DataError, match="found 2 label columns, user, y"):
            data.load(path, label=label)
