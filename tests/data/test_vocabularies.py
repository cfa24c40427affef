"""Vocabularies from files and to files, and how many values have an id."""

import logging

import numpy as np
import pandas as pd
import pytest

from keras_pep import data
from keras_pep.data import DataError
from keras_pep.data.vocabularies import write_vocabularies


@pytest.fixture
def own(tmp_path):
    """Rows whose users are more or less frequent."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "user": np.minimum(random.zipf(1.3, 2000), 500).astype(str),
            "tags": ["|".join("abcde"[: n % 5 + 1]) for n in range(2000)],
            "a/b": random.choice(["x", "y", ""], 2000),
            "price": random.random(2000).round(3),
            "clicked": random.integers(0, 2, 2000),
        }
    )
    frame.to_csv(tmp_path / "own.csv", index=False)
    drawn = np.random.default_rng(0).random(2000)
    return tmp_path / "own.csv", frame, drawn < 0.8


def by_count(values):
    """Values by falling count, and of the same count in order."""
    counts = values.value_counts().rename_axis("value").reset_index()
    return counts.sort_values(["count", "value"], ascending=[False, True])


@pytest.mark.parametrize(
    ("settings", "least", "most"),
    [
        ({"min_count": 0.005}, 8, None),  # of 1,604 training rows
        ({"min_count": 1, "max_values": 20}, 1, 20),
        ({"min_count": 30, "max_values": 1000}, 30, None),
    ],
)
def test_which_values_have_ids_equals_a_slow_version(
    own, settings, least, most
):
    path, frame, train = own
    counts = by_count(frame["user"][train])
    assert 0.005 * train.sum() == pytest.approx(8, abs=0.1)
    counts = counts[counts["count"] >= least + (0.005 * train.sum() > 8)]
    dataset = data.load(path, label="clicked", fields=["user"], **settings)
    known = sorted(counts["value"][:most])
    assert list(dataset.vocabularies["user"]) == [None, *known]


@pytest.mark.parametrize("fields", [(), ["user:text", "tags", "a/b"]])
def test_what_is_written_is_read_again(own, tmp_path, fields):
    path, frame, train = own
    first = data.load(path, label="clicked", fields=fields, min_count=3)
    write_vocabularies(first, tmp_path / "made" / "v")
    files = sorted(p.name for p in (tmp_path / "made" / "v").iterdir())
    assert files == ["a%2Fb.txt", "tags.txt", "user.txt"]  # and no price
    lines = (tmp_path / "made" / "v" / "user.txt").read_text().split("\n")
    counts = by_count(frame["user"][train])
    expected = counts["value"][counts["count"] >= 3].tolist()
    assert lines == [*expected, ""]
    again = data.load(
        path,
        label="clicked",
        fields=fields,
        vocabularies=tmp_path / "made" / "v",
    )
    assert list(again.vocabularies["user"]) == [None, *expected]
    assert again.unseen == first.unseen
    for split, other in zip(
        first.splits.values(), again.splits.values(), strict=True
    ):
        place = 0
        for name in first.fields:
            length = first.vocabularies[name].field.length
            for column in range(place, place + length):
                one, two = (
                    [None if i < 0 else each.vocabularies[name][i] for i in ids]
                    for each, ids in (
                        (first, split.ids[:, column]),
                        (again, other.ids[:, column]),
                    )
                )
                assert one == two
            place += length
    with pytest.raises(DataError, match="v: has files, expected a new folder"):
        write_vocabularies(first, tmp_path / "made" / "v")


def test_files_of_others_are_read(own, tmp_path, caplog):
    path, frame, train = own
    folder = tmp_path / "v"
    folder.mkdir()
    (folder / "_SUCCESS").touch()
    # As Windows ends lines; 2.0 is 2; the empty line is the missing value.
    (folder / "user.txt").write_bytes(b"2.0\r\n1\r\n2\r\nnobody\r\n")
    (folder / "a%2Fb.txt").write_text("\ny\n")

    def load(**settings):
        return data.load(
            path,
            label="clicked",
            fields=["user", "a/b"],
            vocabularies=folder,
            cache_dir=tmp_path / "cache",
            **settings,
        )

    dataset = load()
    assert list(dataset.vocabularies["user"]) == [None, "2", "1", "nobody"]
    ids = {"2": 1, "1": 2}
    np.testing.assert_array_equal(
        dataset.train.ids[:, 0],
        [ids.get(value, 0) for value in frame["user"][train]],
    )
    np.testing.assert_array_equal(
        dataset.train.ids[:, 1],
        [{"": 1, "y": 2}.get(value, 0) for value in frame["a/b"][train]],
    )
    assert len(load(max_values=1).vocabularies["user"]) == 2
    caplog.set_level(logging.INFO, "keras_pep")
    load()
    assert "own: counting values" not in caplog.messages
    (folder / "user.txt").write_text("1\n")
    assert list(load().vocabularies["user"]) == [None, "1"]


def test_values_with_line_ends_are_not_written(tmp_path, caplog):
    frame = pd.DataFrame({"a": ["x\ny", "z"] * 100, "y": [0, 1, 1, 0] * 50})
    frame.to_csv(tmp_path / "own.csv", index=False)
    dataset = data.load(tmp_path / "own.csv", label="y")
    write_vocabularies(dataset, tmp_path / "v")
    assert (tmp_path / "v" / "a.txt").read_text() == "z\n"
    assert "a: left out 1 values that hold the end of a line" in caplog.text


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, r"v: found no vocabulary, expected user\.txt, tags\.txt"),
        ({"price.txt": b"1\n"}, "a field of kind number, expected one of kind"),
        ({"user.txt": b""}, r"user\.txt: is empty, expected a value in each"),
        ({"user.txt": b"\xff\n"}, r"user\.txt: expected text in UTF-8"),
        (None, "v: no such folder, expected vocabularies"),
    ],
)
def test_other_files_are_errors(own, tmp_path, files, found):
    if files is not None:
        (tmp_path / "v").mkdir()
        for name, content in files.items():
            (tmp_path / "v" / name).write_bytes(content)
    with pytest.raises(DataError, match=found):
        data.load(own[0], label="clicked", vocabularies=tmp_path / "v")


@pytest.mark.parametrize("min_count", [0, 1.5, -1, float("nan")])
def test_other_counts_are_errors(own, min_count):
    with pytest.raises(DataError, match="expected a number of rows, or a sha"):
        data.load(own[0], label="clicked", min_count=min_count)


def test_every_value_of_movielens_has_an_id():
    for settings in ({"max_values": 3}, {"vocabularies": "v"}):
        with pytest.raises(DataError, match="every value of movielens has an"):
            data.load("movielens", **settings)
