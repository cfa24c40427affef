"""Counts of values, in memory and in files, equal slow versions of them."""

import resource
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from keras_pep import data
from keras_pep.data import DataError, Earlier, counting, stored
from keras_pep.data.places import Places

ROWS = 3000


@pytest.fixture(params=["memory", "files"])
def where(request, monkeypatch):
    """Blocks are small; counts of each go to a file, and few are merged."""
    monkeypatch.setattr("keras_pep.data.rows._BLOCK", 16_384)
    monkeypatch.setattr("keras_pep.data.rows._BLOCK_ROWS", 500)
    if request.param == "files":
        monkeypatch.setattr(counting, "_IN_MEMORY", 1)
        monkeypatch.setattr(counting, "_PART", 499)
        monkeypatch.setattr(counting, "_FILES", 3)
    return request.param


def rows(seed, first=0):
    random = np.random.default_rng(seed)
    user = first + (700 * random.random(ROWS) ** 2).astype(int)
    number = random.integers(0, 900, ROWS)
    odd = [
        f"{n}.0" if n % 5 and r < 0.5 else str(n)
        for n, r in zip(number, random.random(ROWS), strict=True)
    ]
    return pd.DataFrame(
        {
            "y": random.integers(0, 2, ROWS),
            "user": [f"é{n}" if n % 9 else "" for n in user],
            "number": user * 7,
            "odd": odd,
            "tags": [
                "|".join(f"t{t}" for t in random.integers(0, 300, n % 4))
                for n in range(ROWS)
            ],
        }
    )


def values_of(frame):
    """The values of each row and field, as texts of one spelling."""
    return {
        "user": [[v] for v in frame["user"]],
        "number": [[str(v)] for v in frame["number"]],
        "odd": [[v.removesuffix(".0")] for v in frame["odd"]],
        "tags": [[*dict.fromkeys(v.split("|"))] for v in frame["tags"]],
    }


def load(path, folder, **settings):
    return data.load(
        path,
        label="y",
        fields=["user:category", "number:category", "odd", "tags:list"],
        cache_dir=folder,
        **settings,
    )


def seen_of(dataset):
    seen = pd.read_parquet(dataset.seen)
    return {
        name: dict(zip(part["value"], part["times"], strict=True))
        for name, part in seen.groupby("field")
    }


@pytest.mark.usefixtures("where")
@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(("least", "most"), [(1, None), (3, None), (2, 40)])
def test_values_and_ids_equal_a_slow_version(tmp_path, kind, least, most):
    frame, path = rows(0), tmp_path / f"rows.{kind}"
    getattr(frame, f"to_{kind}")(path, index=False)
    settings = {"min_count": least, "max_values": most}
    dataset = load(path, tmp_path / "cache", **settings)
    drawn = np.random.default_rng(0).random(ROWS)
    train, test = drawn < 0.8, drawn >= 0.9
    parsed = {column.column: column for column in dataset.columns}
    for name, values in values_of(frame).items():
        counts = Counter(
            v for row, t in zip(values, train, strict=True) if t for v in row
        )
        assert seen_of(dataset)[name] == counts
        often = [value for value, times in counts.items() if times >= least]
        often.sort(key=lambda value: (-counts[value], value.encode()))
        known = sorted(often[:most])
        assert list(dataset.vocabularies[name]) == [None, *known]
        ids = {value: n for n, value in enumerate(known, 1)}
        place = list(dataset.fields).index(name)
        lengths = dataset.field_lengths
        found = dataset.test.ids[:, sum(lengths[:place]) :][:, : lengths[place]]
        tested = [row for row, t in zip(values, test, strict=True) if t]
        assert [[i for i in row if i >= 0] for row in found.tolist()] == [
            [ids.get(value, 0) for value in row] for row in tested
        ]
        every = [value for row in tested for value in row]
        new = [value for value in every if value not in counts]
        share = len(new) / len(every)
        assert dataset.unseen[name] == (len({*new}), pytest.approx(share))
        assert parsed[name].distinct == len({*counts} - {""})
        assert parsed[name].missing == pytest.approx(
            counts.get("", 0) / train.sum()
        )
    written = Counter(frame["odd"][train])
    both = sum(f"{value}.0" in written for value in written)
    assert f"count as one value, and so do {both - 1:,} pairs more" in "".join(
        dataset.notes
    )


def slowly_extended(known, seen, least, evict_below, most):
    """Extend a vocabulary value by value, as `Vocabulary.extended` does."""
    known = list(known)
    new = [v for v, n in seen.items() if n >= least and v not in known]
    new.sort(key=lambda value: (-seen[value], value.encode()))
    free = [place for place, value in enumerate(known) if value is None]
    known = [v if seen.get(v, 0) >= evict_below else None for v in known]
    new = new[: most - len([v for v in known if v is not None])]
    for place, value in zip(free, new, strict=False):
        known[place] = value
    return known + new[len(free) :]


@pytest.mark.usefixtures("where")
def test_later_counts_equal_a_slow_version(tmp_path):
    path, train = tmp_path / "0.csv", np.random.default_rng(0).random(ROWS)
    rows(0).to_csv(path, index=False)
    now = load(path, tmp_path, min_count=4)
    known = {name: list(now.vocabularies[name])[1:] for name in now.fields}
    seen = seen_of(now)
    for day in (1, 2):
        frame, path = rows(day, 100 * day), tmp_path / f"{day}.csv"
        frame.to_csv(path, index=False)
        # Of files and of values in memory.
        before = now.seen if day % 2 else seen
        earlier = Earlier(now.vocabularies, before, 0.3, evict_below=1.5)
        now = load(
            *(path, tmp_path), min_count=4, max_values=400, earlier=earlier
        )
        for name, values in values_of(frame).items():
            old = {v: 0.3 * n for v, n in seen[name].items() if 0.3 * n > 0.01}
            lengths = now.vocabularies[name].field.length
            for row, drawn in zip(values, train, strict=True):
                for value in row[:lengths] if drawn < 0.8 else ():
                    old[value] = old.get(value, 0) + 1
            seen[name] = old
            known[name] = slowly_extended(known[name], old, 4, 1.5, 400)
            assert list(now.vocabularies[name])[1:] == known[name]
            assert seen_of(now)[name] == pytest.approx(old)
    assert None in known["user"]


@pytest.fixture
def path(tmp_path):
    rows(0).to_csv(tmp_path / "rows.csv", index=False)
    return tmp_path / "rows.csv"


@pytest.mark.usefixtures("where")
@pytest.mark.parametrize("where", ["files"], indirect=True)
def test_a_full_disk_is_told_and_leaves_nothing(path, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
    try:
        with pytest.raises(DataError, match="be written: File too large"):
            load(path, tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.usefixtures("where")
@pytest.mark.parametrize("where", ["files"], indirect=True)
def test_counts_are_in_the_folder_that_goes_after_a_kill(
    path, tmp_path, monkeypatch
):
    found = []
    counts = counting.ValueCounter.counts

    def stopped(_):
        found.extend((tmp_path / "cache").glob("*.partial/counts/*/*.arrow"))
        raise KeyboardInterrupt

    monkeypatch.setattr(counting.ValueCounter, "counts", stopped)
    with pytest.raises(KeyboardInterrupt):
        load(path, tmp_path / "cache")
    assert 4 <= len(found) <= 4 * 3
    assert not list((tmp_path / "cache").iterdir())
    monkeypatch.setattr(counting.ValueCounter, "counts", counts)
    load(path, tmp_path / "cache")
    (folder,) = (tmp_path / "cache").iterdir()
    assert not (folder / "counts").exists()


def test_no_file_is_mapped_when_the_folder_gets_its_name(
    path, tmp_path, monkeypatch
):
    """Windows would not rename it."""
    maps, rename = [], Path.rename

    def looked_at(self, target):
        maps.append(Path("/proc/self/maps").read_text())
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", looked_at)
    dataset = load(path, tmp_path / "cache")
    assert maps
    assert not any(".partial" in each for each in maps)
    assert "values.arrow" in Path("/proc/self/maps").read_text()
    del dataset


def test_damaged_values_are_told(path, tmp_path):
    load(path, tmp_path / "cache")
    (folder,) = (tmp_path / "cache").iterdir()
    values = (folder / "values.arrow").read_bytes()
    at = values.index("é100".encode())
    changed = values[:at] + "é9".encode() + values[at + 3 :]
    for content in (
        changed,
        values[:-50],
        values[:at] + b"\xff" * 5 + values[at + 5 :],
    ):
        (folder / "values.arrow").write_bytes(content)
        with pytest.raises(DataError, match=r"damaged, .*; remove it"):
            stored.open_folder(folder, 0)


@pytest.mark.parametrize("ordered", [True, False])
def test_places_are_those_of_a_dict(ordered):
    random = np.random.default_rng(0)
    for size in (0, 1, 2, 3, 255, 256, 257):
        texts = [f"{n:x}" for n in random.integers(0, 2 * size + 1, size)]
        texts = sorted({*texts}) if ordered else [*texts, None, *texts]
        known = {}
        for place, text in enumerate(texts):
            known.setdefault(text, place)
        wanted = ["", "é", *(f"{n:x}" for n in range(2 * size + 2))]
        found = Places(pa.array(texts, pa.string())).of(pa.array(wanted))
        assert found.tolist() == [known.get(text, -1) for text in wanted]
