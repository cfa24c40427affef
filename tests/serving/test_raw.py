"""Raw values to ids in a graph, against what the readers do."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from keras_pep.data.fields import Field, Vocabulary
from keras_pep.serving.raw import Numbering, write_vocabulary

UNKNOWN = 1_000_000


def in_graph(field, values, raw, tmp_path):
    """Values that a graph makes of raw ones; `"?"` for what is unknown."""
    vocabulary = Vocabulary(field, np.array(values, dtype=object))
    path = tmp_path / "vocabulary.tsv"
    write_vocabulary(vocabulary, path, np.zeros(len(values), dtype=bool))
    numbering = Numbering(vocabulary, path, UNKNOWN)
    ids = tf.function(numbering)(tf.constant(raw, numbering.input)).numpy()
    named = {-1: None, UNKNOWN: "?", **dict(enumerate(values))}
    return [[named[number] for number in row] for row in ids.tolist()]


def by_readers(field, values, raw):
    made, malformed = field.values(raw)
    made = made.reshape(len(raw), -1).tolist()
    known = {None, *values}
    return [
        [value if value in known and not bad else "?" for value in row]
        for row, bad in zip(made, malformed.tolist(), strict=True)
    ]


def odd_times():
    random = np.random.default_rng(0)
    stamps = pd.to_datetime(random.integers(0, 4_000_000_000, 300), unit="s")
    zones = ["", "Z", "+02:00", "-0530", "+09"]
    forms = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f", "%Y%m%dT%H%M%S"]
    forms += ["%Y-%m-%d %H:%M", "%Y-%m-%d", "%Y%m%d"]
    texts = []
    for stamp in stamps:
        form = forms[random.integers(len(forms))]
        zone = zones[random.integers(len(zones))] if "%M" in form else ""
        texts.append(stamp.strftime(form) + zone)
    texts += [str(t) for t in random.integers(1e8, 4e9, 50)]
    texts += [str(t) for t in random.integers(1e11, 4e12, 50)]
    texts += ["2024-02-29", "2023-02-29", "2000-02-29", "1900-02-29"]
    texts += ["2026-13-01", "2026-00-10", "2026-04-31", "2026-11-22 24:00"]
    texts += ["2026-11-22 10:60", "2026-11-22 10:00:61", "20261122"]
    texts += ["", "nan", "NaT", "NULL", "None", r"\N", "tomorrow", "12", "-5"]
    texts += ["\0a", "na\0x", "9" * 400, "1e999", "-1e999", "1e-999"]
    texts += ["1e9", " 1500000000 ", "1500000000.5", "99999999", "4102444800"]
    texts += ["1969-12-31 23:30", "0001-01-01", "2026-1-1", "2026/11/22"]
    texts += ["2024-01-02 03:04:05 +00:00", "2024-01-02 03:04:05 Z"]
    texts += ["2024-01-02 03:04:05+2", "2024-01-02 03:04 ", "2024-01-02T03"]
    texts += ["2024-01-02 03:04+02:70", "2024-0102", "202401-02"]
    texts += ["2024-01-02 20:2256", "2024-01-02 03:04:05.", "9999-12-31"]
    texts += [
        "2502-10-20 05:00",
        "2024-01-02 03:04:05+05:45",
        "\uff12026-01-01",
    ]
    return texts


@pytest.mark.parametrize("kind", ["hour", "weekday"])
def test_times(kind, tmp_path):
    field = Field("when", "when", kind)
    values = ["", *map(str, range(24 if kind == "hour" else 7))]
    texts = odd_times()
    found = in_graph(field, values, texts, tmp_path)
    expected = by_readers(field, values, texts)
    different = {
        text: (one, other)
        for text, one, other in zip(texts, found, expected, strict=True)
        if one != other
    }
    assert not different
    assert len({value for (value,) in found}) == len(values) + 1  # and "?"


def test_times_in_the_format_of_avazu(tmp_path):
    field = Field("hour", "hour", "hour", time_format="%y%m%d%H")
    values = ["", *map(str, range(24))]
    texts = ["14102100", "14102123", "99123105", "14022905", "16022905"]
    texts += ["14102124", "1410210", "14132100", "", "x14102100", "NA"]
    found = in_graph(field, values, texts, tmp_path)
    assert found == by_readers(field, values, texts)
    assert found[:5] == [["0"], ["23"], ["5"], ["?"], ["5"]]


def test_a_format_that_is_not_known_is_refused(tmp_path):
    field = Field("t", "t", "hour", time_format="%B")
    with pytest.raises(ValueError, match="%B"):
        in_graph(field, ["1"], ["May"], tmp_path)


def test_numbers(tmp_path):
    field = Field(
        "price", "price", "number", edges=(-1.5, 0.1, 0.1 + 2**-53, 3)
    )
    values = ["", "0", "1", "3", "4"]  # 2 is not known
    numbers = [-2, -1.5, -1.4, 0.1, 0.1 + 2**-53, np.nextafter(0.1, 0), 2.9, 3]
    numbers += [1e300, -np.inf, np.inf]
    found = in_graph(field, values, [*numbers, np.nan], tmp_path)
    texts = [*map(repr, map(float, numbers)), ""]
    assert found == by_readers(field, values, texts)
    assert found[-1] == [""]
    assert ["?"] in found


def test_logarithms(tmp_path):
    field = Field("count", "count", "log")
    random = np.random.default_rng(0)
    numbers = [
        *range(-5, 300),
        *random.integers(0, 2**52, 300),
        2**53,
        2.5,
        -0.0,
    ]
    texts = [*map(str, numbers), ""]
    values = ["", *map(str, range(-7, 1300))]
    found = in_graph(field, values, [*map(float, numbers), np.nan], tmp_path)
    assert found == by_readers(field, values, texts)
    assert found[-4:] == [["?"], ["?"], ["-2"], [""]]


@pytest.mark.parametrize("length", [1, 3])
def test_lists(length, tmp_path):
    field = Field("tags", "tags", "list", length=length)
    values = ["", "a", "b", "a b", "ü", "tab\there"]
    texts = ["", "|", "a", "a|b|ü", "b|b|a|b|ü|a b", "x|y|x|z", "a||a|b"]
    texts += ["tab\there", "|".join(map(str, range(500)))]
    found = in_graph(field, values, texts, tmp_path)
    assert found == by_readers(field, values, texts)
    assert in_graph(field, values, [], tmp_path) == []


def test_categories_that_would_divide_lines(tmp_path):
    field = Field("city", "city")
    values = [
        "",
        "a",
        "a\tb",
        "a\nb",
        "a\rb",
        r"a\nb",
        r"a\\nb",
        "\\",
        "\t",
        "ü",
    ]
    others = ["a b", "\n", r"a\tb", "\\\\", "?", "a\r\nb", " "]
    found = in_graph(field, values, values + others, tmp_path)
    assert found == [[value] for value in values] + [["?"]] * len(others)


def test_a_vocabulary_of_nothing(tmp_path):
    field = Field("city", "city")
    assert in_graph(field, [], ["a", ""], tmp_path) == [["?"], ["?"]]


def test_integers(tmp_path):
    vocabulary = Vocabulary(Field("id", "id"), np.array([-7, 0, 2**40]))
    path = tmp_path / "vocabulary.tsv"
    size = write_vocabulary(vocabulary, path, np.array([False, True, False]))
    assert path.read_text() == f"-7\t0\n{2**40}\t2\n"
    assert size == path.stat().st_size
    numbering = Numbering(vocabulary, path, 3)
    assert numbering.input == tf.int64
    ids = numbering(tf.constant([2**40, 0, -7, 5], tf.int64))
    assert ids.numpy().tolist() == [[2], [3], [0], [3]]
