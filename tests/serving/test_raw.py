"""Raw values to ids in a graph, against what the readers do."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from keras_pep.data.fields import Field, Vocabulary
from keras_pep.data.numbering import Encoder
from keras_pep.data.spelling import spelled
from keras_pep.data.times import as_texts
from keras_pep.serving.raw import (
    Numbering,
    read_vocabulary,
    spell,
    write_vocabulary,
)

UNKNOWN = 1_000_000


def in_graph(field, values, raw, tmp_path):
    """Values that a graph makes of raw ones; `"?"` for what is unknown."""
    vocabulary = Vocabulary(field, np.array(values, dtype=object))
    path = tmp_path / "vocabulary.tsv"
    write_vocabulary(vocabulary, path, np.zeros(len(values), dtype=bool))
    numbering = Numbering(vocabulary, path, UNKNOWN)

    def number(raw):
        return numbering(spell([raw])[0] if numbering.spelled else raw)

    ids = tf.function(number)(tf.constant(raw, numbering.input)).numpy()
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
    texts += ["N/A", "#n/a", " - ", "?", "--", ".", "<NA>", "#DIV/0!", "..."]
    texts += [str(t) for t in random.integers(10**14, 4 * 10**15, 50)]
    texts += [str(t) for t in random.integers(10**17, 4 * 10**18, 50)]
    # A nanosecond before the hour, which a float would round to it.
    texts += ["1500001199999999999", "1500001200000000000", "15000011999999999"]
    texts += ["1506826800000.0", "1.5068268e+18", "1e19", "-1500000000", "+1e9"]
    texts += ["2026-11-01 9:30", "2026-1-1 0:05:09", "2026/11/22 9:30", "9:30"]
    texts += ["2026-11-22 09:30:00 UTC", "2026-11-22 9:3", "2026-11-22 24:30"]
    texts += ["2026-02-30 10:00:00", "2026-11-22 10:00:00.1234567+0230"]
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
    field = Field("t", "t", "hour", time_format="%j")
    with pytest.raises(ValueError, match="%j"):
        in_graph(field, ["1"], ["May"], tmp_path)


@pytest.mark.parametrize(
    ("time_format", "texts", "hours"),
    [
        (
            "%m/%d/%Y %H:%M",
            [
                "11/7/2026 9:30",
                "11/17/2026 09:5",
                "13/1/2026 9:30",
                "2/29/2024 23:59",
                "2/29/2023 23:59",
                "11/7/2026 24:00",
                "11/7/26 9:30",
            ],
            ["9", "9", "?", "23", "?", "?", "?"],
        ),
        (
            "%d.%m.%y %I:%M %p",
            [
                "13.1.26 9:30 AM",
                "13.1.26 12:30 am",
                "13.1.26 12:30 PM",
                "31.4.26 1:00 PM",
                "1.4.26  1:00 pM",
                "1.4.26 13:00 PM",
                "n/a",
            ],
            ["9", "0", "12", "?", "13", "?", ""],
        ),
        (
            "%d/%b/%Y:%H:%M:%S %z",
            [
                "07/Nov/2026:09:30:00 +0000",
                "07/nov/2026:00:30:00 +02:00",
                "7/Dec/2026:23:30:00 -0130",
                "07/Nov/2026:09:30:00 Z",
                "07/No/2026:09:30:00 Z",
            ],
            ["9", "22", "1", "9", "?"],
        ),
        (
            "%B %d, %Y",
            ["June 30, 2026", "may 1, 2026", "June 31, 2026"],
            ["0", "0", "?"],
        ),
        ("%H:%M:%S.%f", ["09:30:00.123456", "9:30:00"], ["9", "?"]),
        ("100%% %a %H", ["100% Mon 9", "100 Mon 9"], ["9", "?"]),
    ],
)
def test_formats(time_format, texts, hours, tmp_path):
    for kind, values in (("hour", range(24)), ("weekday", range(7))):
        field = Field("when", "when", kind, time_format=time_format)
        values = ["", *map(str, values)]
        found = in_graph(field, values, texts, tmp_path)
        assert found == by_readers(field, values, texts)
        if kind == "hour":
            assert [value for (value,) in found] == hours


def odd_spellings():
    """Numbers, truth values and times as different programs write them."""
    random = np.random.default_rng(0)
    floats = random.normal(size=60) * 10.0 ** random.integers(-20, 25, 60)
    texts = [repr(float(f)) for f in [*floats, *np.floor(floats)]]
    texts += [f"{f:{form}}" for f in floats for form in (".3E", ".1f", ".0e")]
    texts += ["107", "107.0", " 107 ", "1.07E2", "007", "007.0", "-0", "-0.0"]
    texts += [".5", "-.50", "5.", "1e3", "12e5678", "1E5", "1.5e-999", "1e+999"]
    texts += ["True", "FALSE", "trues", "nan", "NaN", "Nan", "NA", "-", "0"]
    texts += ["9007199254740993", "18446744073709551615.0", "1.10", "1.1.0"]
    stamps = ["2026-11-07 09:30", "2026-11-07T09:30:00", "2026-11-07 00:00:00"]
    ends = ["", ".000", ".120", "Z", " UTC", "+00:00", "+0130", "-05", ".50Z"]
    texts += [stamp + end for stamp in stamps for end in ends]
    texts += ["2026-11-07", "2026-11-07 9:30", "0026-11-07 09:30:00.50"]
    zones = ["+05:45", "-1100", "+14", "-00:30", "+00:75"]
    days = [
        "2024-02-29",
        "2026-12-31",
        "2026-01-01",
        "2026-02-30",
        "1000-03-01",
    ]
    hours = ["00:10:00.5", "23:50"]
    texts += [f"{d} {h}{z}" for d in days for h in hours for z in zones]
    for text in texts[::3]:  # one character more or less
        place = random.integers(len(text))
        more = "0.-e+ T:Z"[random.integers(9)]
        texts += [
            text[:place] + more + text[place:],
            text[:place] + text[place + 1 :],
        ]
    return texts


def test_spellings(tmp_path):
    texts = odd_spellings()
    values = [*dict.fromkeys(spelled(as_texts(texts)).to_pylist())]
    assert spelled(as_texts(values)).to_pylist() == values
    assert len({*texts} - {*values}) > 200  # spelled in another way
    found = in_graph(Field("id", "id"), values, texts, tmp_path)
    assert [v for (v,) in found] == spelled(as_texts(texts)).to_pylist()
    vocabulary = Vocabulary(Field("id", "id"), np.array(values, dtype=object))
    ids = Encoder(vocabulary, UNKNOWN).ids(as_texts(texts))
    assert [values[n] for (n,) in ids] == [v for (v,) in found]


def test_text_is_taken_as_it_is(tmp_path):
    field = Field("version", "version", "text")
    values = ["1.1", "1.10", "True", ""]
    texts = ["1.10", "1.1", "1.100", "true", "True", "nan", ""]
    found = in_graph(field, values, texts, tmp_path)
    assert found == [["1.10"], ["1.1"], ["?"], ["?"], ["True"], ["?"], [""]]
    vocabulary = Vocabulary(field, np.array(values, dtype=object))
    ids = Encoder(vocabulary, UNKNOWN).ids(as_texts(texts))
    assert ids.ravel().tolist() == [1, 0, UNKNOWN, UNKNOWN, 2, UNKNOWN, 3]


def test_vocabularies_of_an_earlier_version_know_both_spellings(tmp_path):
    field = Field("id", "id")
    values = ["107.0", "True", "1.50", "1.5"]
    texts = ["107.0", "107", "1.07E2", "true", "1.5", "1.50", "1.500", "108.0"]
    names = ["107.0"] * 3 + ["True", "1.5", "1.50", "1.5", "?"]
    found = in_graph(field, values, texts, tmp_path)
    assert [v for (v,) in found] == names
    vocabulary = Vocabulary(field, np.array(values, dtype=object))
    ids = Encoder(vocabulary, UNKNOWN).ids(as_texts(texts))
    known = dict(enumerate(values)) | {UNKNOWN: "?"}
    assert [known[n] for (n,) in ids.tolist()] == names


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


def test_vocabularies_are_read_as_they_were_written(tmp_path):
    values = ["", "a\tb", "c\\nd", "\n", "e\r", "\\", "\u2028", "7"]
    vocabulary = Vocabulary(Field("f", "f"), np.array(values, object), True)
    path = tmp_path / "vocabulary.tsv"
    write_vocabulary(vocabulary, path, np.zeros(9, dtype=bool))
    assert read_vocabulary(path) == values
