import json

import numpy as np
import pytest

from keras_pep.data.fields import Field, Vocabulary
from keras_pep.lab.report.features import feature_content
from keras_pep.lab.report.names import feature_name, printable, short


def fields(*sizes):
    return {
        f"f{n}": Vocabulary(
            Field(f"f{n}", f"f{n}"),
            np.array([f"f{n}-{value}" for value in range(size)], object),
        )
        for n, size in enumerate(sizes)
    }


@pytest.fixture
def content():
    """Two fields of four and two features, by two budgets."""
    counts = np.array([9, 8, 1, 0, 1000, 3])
    sizes = {10: np.array([3, 1, 0, 2, 4, 0]), 5: np.array([1, 0, 0, 0, 4, 0])}
    return feature_content(fields(4, 2), counts, sizes, drawn=100)


def test_sums_of_fields(content):
    assert [f["name"] for f in content.fields] == ["f0", "f1"]
    assert [f["key"] for f in content.fields] == ["f0", "f1"]
    assert [f["features"] for f in content.fields] == [4, 2]
    assert [f["occurrences"] for f in content.fields] == [18, 1003]
    assert [b["target"] for b in content.budgets] == [10, 5]
    assert [b["kept"] for b in content.budgets] == [[6, 4], [1, 4]]
    assert [b["left"] for b in content.budgets] == [[3, 1], [1, 1]]
    assert (content.count, content.unseen) == (6, 1)


def test_every_feature_of_a_small_table_is_drawn(content):
    assert content.drawn == {
        "field": [0, 0, 0, 0, 1, 1],
        "name": ["f0-0", "f0-1", "f0-2", "f0-3", "f1-0", "f1-1"],
        "count": [9, 8, 1, 0, 1000, 3],
        "sizes": [[3, 1, 0, 2, 4, 0], [1, 0, 0, 0, 4, 0]],
    }


def test_the_most_kept_come_first_and_nothing_kept_not_at_all(content):
    # Of all fields, of the first, of the second.
    assert content.budgets[0]["top"] == [[4, 0, 3, 1], [0, 3, 1], [4]]
    assert content.budgets[1]["top"] == [[4, 0], [0], [4]]


def test_trends_are_means_by_powers_of_two(content):
    everything, first, second = content.budgets[0]["trends"]
    assert everything["features"] == [1, 1, 2, 1]  # 1; 2-3; 8-15; 512-1023
    assert everything["size"] == [0, 0, 2, 4]
    # The geometric mean of 8 and 9.
    assert everything["count"] == [1, 3, pytest.approx(8.485, abs=1e-3), 1000]
    assert first["size"] == [0, 2]
    assert second["size"] == [0, 4]


def test_without_counts_there_are_no_trends():
    content = feature_content(fields(3), None, {2: np.array([0, 2, 0])}, 10)
    assert content.budgets[0]["trends"] == []
    assert content.budgets[0]["top"] == [[1], [1]]
    assert content.drawn["count"] is None
    assert content.unseen is None


def test_a_million_features_are_drawn_by_some():
    random = np.random.default_rng(0)
    counts = random.zipf(1.5, 1_000_010).clip(max=10**6)
    sizes = {n: random.integers(0, 65, counts.size) for n in (9, 8, 7)}
    vocabularies = fields(1_000_000, 10)
    content = feature_content(vocabularies, counts, sizes, drawn=3000)
    assert content.count == 1_000_010
    # And the 20 of each budget that keep the most.
    assert 2500 < len(content.drawn["name"]) <= 3000 + 3 * 20
    assert content.drawn["field"].count(1) == 10
    assert max(content.drawn["count"]) == counts.max()
    for budget, of in zip(content.budgets, sizes.values(), strict=True):
        assert sum(budget["kept"]) == of.sum()
        shown = [content.drawn["sizes"][0][i] for i in budget["top"][0]]
        assert len(shown) == 20
    assert content.budgets[0]["trends"][0]["features"] == [
        ((counts >= 2**n) & (counts < 2 ** (n + 1))).sum()
        for n in range(20)
        if ((counts >= 2**n) & (counts < 2 ** (n + 1))).any()
    ]
    assert len(json.dumps(vars(content))) < 500_000


def test_many_budgets_of_many_fields_have_fewer_of_the_most_kept():
    """Whatever there is, the page stays small."""
    vocabularies = fields(*[300] * 200)
    sizes = np.arange(300 * 200) % 64
    content = feature_content(
        vocabularies, None, {n: np.roll(sizes, n) for n in range(50)}, 3000
    )
    assert len(json.dumps(vars(content))) < 5_000_000


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("", "(missing)"),
        ("0", "below 1.5"),
        ("1", "1.5 to 20"),
        ("2", "20 or more"),
        ("3", "3"),  # of an edge that is not there
        ("-1", "-1"),
    ],
)
def test_numbers_are_named_by_their_range(value, name):
    field = Field("price", "price", "number", (1.5, 20.0))
    vocabulary = Vocabulary(field, np.array([value], object))
    assert feature_name(vocabulary, 0) == name


def test_names_are_raw_values_without_their_middle_if_they_are_long():
    values = np.array(["Amélie", "x" * 200 + "end"], object)
    vocabulary = Vocabulary(Field("f", "f"), values, unknown=True)
    assert feature_name(vocabulary, 0) == "(any other value)"
    assert feature_name(vocabulary, 1) == "Amélie"
    assert feature_name(vocabulary, 2) == "x" * 59 + "…" + "x" * 17 + "end"
    assert short("x" * 80) == "x" * 80
    assert printable(3) == "3"


@pytest.mark.parametrize(
    "name",
    [
        "می\u200cخواهم",  # noqa: RUF001 - Persian: letters that are not joined
        "\U0001f469\u200d\U0001f469\u200d\U0001f467",  # a family of three
        "山田\u3000太郎",  # Japanese: an ideographic space
        "क्\u200dष",  # Devanagari: half a letter
        "10\u00a0000\u202f€",  # spaces that do not break
        "שלום\u200f!",  # Hebrew: a mark that is itself of a direction
        "co\u00adoperation",
        "\U000f0000",  # of private use
    ],
)
def test_characters_of_ordinary_text_stay(name):
    assert printable(name) == name


@pytest.mark.parametrize(
    "character",
    [
        *"\n\r\t\0\x1b\x7f\x85",
        *("\ud800", "\u2028", "\u2029"),
        *"\u202a\u202b\u202c\u202d\u202e",  # embeddings and overrides
        *"\u2066\u2067\u2068\u2069",  # isolates
    ],
)
def test_characters_that_change_others_are_replaced(character):
    assert printable(f"a{character}b") == "a\ufffdb"
    assert short(f"a{character}b") == "a\ufffdb"
