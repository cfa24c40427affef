import logging
import math
import re
import resource
import shutil
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from keras_pep import data
from keras_pep.data import DataError, stored
from keras_pep.data.fitting import Sample
from tests.commands import processes
from tests.formats import CRITEO_COLUMNS


def criteo_frame(path):
    """Every row as it is prepared, by pandas and one value at a time."""
    frame = pd.read_csv(
        path, sep="\t", names=CRITEO_COLUMNS, dtype=str, na_filter=False
    )
    for name in CRITEO_COLUMNS[1:14]:
        frame[name] = [
            ""
            if text == ""
            else str(math.floor(math.log(int(text)) ** 2))
            if int(text) > 2
            else str(int(text) - 2)
            for text in frame[name]
        ]
    return frame


def avazu_frame(path, features):
    frame = pd.read_csv(path, dtype=str, na_filter=False)
    frame = frame.rename(columns={"click": "label"}).drop(columns="id")
    if features == "full":
        times = [datetime.strptime(h, "%y%m%d%H") for h in frame["hour"]]
        frame["hour"] = [str(time.hour) for time in times]
        frame.insert(2, "weekday", [str(time.weekday()) for time in times])
    return frame


def assert_equal_to_slow_version(dataset, frame, seed, min_count, rows=None):
    """Ids, counts and labels of every row, or of some random ones."""
    ends = np.random.default_rng(seed).random(len(frame))
    parts = {
        "train": ends < 0.8,
        "validation": (ends >= 0.8) & (ends < 0.9),
        "test": ends >= 0.9,
    }
    assert dataset.fields == tuple(c for c in frame if c != "label")
    counts = iter(np.split(dataset.counts(), np.cumsum(dataset.field_sizes)))
    for place, name in enumerate(dataset.fields):
        occurs = frame[name][parts["train"]].value_counts()
        known = sorted(occurs[occurs >= min_count].index)
        ids = {value: number for number, value in enumerate(known, 1)}
        assert list(dataset.vocabularies[name]) == [None, *known]
        rare = occurs[occurs < min_count].sum()
        assert list(next(counts)) == [rare, *occurs[known]]
        for split, part in parts.items():
            expected = [ids.get(value, 0) for value in frame[name][part]]
            chosen = np.arange(len(expected))
            if rows is not None:
                random = np.random.default_rng(0)
                chosen = random.choice(len(expected), rows, replace=False)
            np.testing.assert_array_equal(
                dataset.splits[split].ids[chosen][:, place],
                np.array(expected)[chosen],
            )
            assert dataset.unknown[split][place] == pytest.approx(
                np.mean(np.array(expected) == 0)
            )
    for split, part in parts.items():
        np.testing.assert_array_equal(
            dataset.splits[split].labels, frame["label"][part].astype(int)
        )


@pytest.mark.parametrize("in_memory", [0, 1 << 30])
def test_criteo_equals_a_slow_version(small_criteo, in_memory):
    dataset = data.load("criteo", small_criteo, seed=3, in_memory=in_memory)
    assert dataset.train.in_memory == (in_memory > 0)
    frame = criteo_frame(small_criteo / "train.txt")
    assert_equal_to_slow_version(dataset, frame, seed=3, min_count=10)


@pytest.mark.parametrize("features", ["paper", "full"])
def test_avazu_equals_a_slow_version(small_avazu, features):
    dataset = data.load("avazu", small_avazu, features=features, min_count=4)
    frame = avazu_frame(small_avazu / "train.gz", features)
    assert_equal_to_slow_version(dataset, frame, seed=0, min_count=4)


@pytest.mark.slow
def test_real_criteo_equals_a_slow_version(shared_data):
    folder = shared_data / "criteo"
    dataset = data.load("criteo", folder)
    assert sum(len(split) for split in dataset.splits.values()) == 137_139
    assert dataset.feature_count == pytest.approx(17_375, rel=0.02)
    frame = criteo_frame(folder / "train.txt")
    assert_equal_to_slow_version(dataset, frame, 0, 10, rows=1000)


def test_real_avazu_equals_a_slow_version(shared_data):
    folder = shared_data / "avazu"
    dataset = data.load("avazu", folder)
    assert sum(len(split) for split in dataset.splits.values()) == 85_635
    frame = avazu_frame(folder / "train.csv", "full")
    assert_equal_to_slow_version(dataset, frame, 0, 10, rows=1000)


def test_what_is_prepared_is_found_again(small_criteo, tmp_path, caplog):
    caplog.set_level(logging.INFO, "keras_pep")

    def load(**settings):
        caplog.clear()
        dataset = data.load(
            "criteo",
            small_criteo,
            cache_dir=tmp_path / "cache",
            **settings,
        )
        return dataset.fingerprint()

    first = load()
    assert "criteo: counting values" in caplog.messages
    assert load() == first
    (said,) = caplog.messages
    assert said.startswith("criteo: prepared in ")
    assert load(min_count=5) != first
    assert "criteo: counting values" in caplog.messages
    assert load(seed=1) != first
    path = small_criteo / "train.txt"
    path.write_text(path.read_text().replace("\t", "\t7", 1))
    assert load() != first
    assert "criteo: counting values" in caplog.messages


def test_what_another_version_has_prepared_is_not_read(
    small_criteo, tmp_path, monkeypatch, caplog
):
    """Its values may have other spellings."""
    cache = tmp_path / "cache"
    with monkeypatch.context() as before:
        before.setattr("keras_pep.data.stored.FORMAT", 1)
        data.load("criteo", small_criteo, cache_dir=cache)
    caplog.set_level(logging.INFO, "keras_pep")
    data.load("criteo", small_criteo, cache_dir=cache)
    assert "criteo: counting values" in caplog.messages
    assert len([*cache.iterdir()]) == 2


def test_the_fingerprint_is_of_the_content(small_criteo, tmp_path):
    """The same rows elsewhere, prepared later, are the same data."""
    first = data.load("criteo", small_criteo).fingerprint()
    small_criteo.rename(tmp_path / "moved")
    assert data.load("criteo", tmp_path / "moved").fingerprint() == first


def damage(path, how):
    content = path.read_bytes()
    if how == "emptied":
        path.write_bytes(b"")
    elif how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["emptied", "truncated", "missing"])
@pytest.mark.parametrize(
    "name", ["dataset.json", "train/0.npy", "test/label.npy"]
)
def test_a_damaged_folder_is_an_error(small_criteo, tmp_path, how, name):
    load = lambda: data.load("criteo", small_criteo, cache_dir=tmp_path / "c")  # noqa: E731
    load()
    (folder,) = (tmp_path / "c").iterdir()
    damage(folder / name, how)
    with pytest.raises(DataError, match=r"damaged.*remove it"):
        load()


def test_malformed_rows_are_counted_and_left_out(small_criteo):
    clean = data.load("criteo", small_criteo)
    path = small_criteo / "train.txt"
    lines = path.read_text().splitlines()
    fields = lines[0].split("\t")
    wrong = {
        "too few": lines[0].rsplit("\t", 1)[0],
        "too many": lines[0] + "\t",
        "label": "\t".join(["2", *fields[1:]]),
        "no label": "\t".join(["", *fields[1:]]),
        "integer": "\t".join([fields[0], "1.5", *fields[2:]]),
        "text": "\t".join([fields[0], "many", *fields[2:]]),
    }
    # At the end, so that every other row stays in its split.
    path.write_text("\n".join([*lines, *wrong.values()]) + "\n")
    dataset = data.load("criteo", small_criteo, max_bad_rows=0.01)
    assert dataset.malformed == len(wrong)
    (note,) = dataset.notes
    assert re.match(
        r"Left out, the first malformed row: .*train\.txt, line 2001: found 39 "
        "columns in .*, expected 40",
        note,
    )
    for name, split in dataset.splits.items():
        np.testing.assert_array_equal(split.ids, clean.splits[name].ids)
    for line, found in [
        (
            wrong["too few"],
            r"train\.txt, line 2001: found 39 columns in '.*', "
            "expected 40",
        ),
        (
            wrong["label"],
            r"train\.txt, row 2001: found '2' in column 'label', "
            "expected 0 or 1",
        ),
        (
            wrong["text"],
            r"train\.txt, row 2001: found 'many' in column 'I1', "
            "expected an integer",
        ),
    ]:
        path.write_text("\n".join([*lines, line]) + "\n")
        with pytest.raises(DataError, match=found) as error:
            data.load("criteo", small_criteo, max_bad_rows=0.0)
        assert "1 of 2,001 rows are malformed; --max-bad-rows" in str(
            error.value
        )


def test_a_truncated_gzip_is_an_error(small_avazu):
    path = small_avazu / "train.gz"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(
        DataError, match=r"train\.gz: cannot be read: Truncated"
    ):
        data.load("avazu", small_avazu)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"kaggle.*--data-dir"):
        data.load("criteo")
    with pytest.raises(DataError, match=r"found none of train\.txt, train"):
        data.load("criteo", tmp_path)
    with pytest.raises(DataError, match="'full'"):
        data.load("criteo", tmp_path, features="full")


def load_on_full_disk(folder, cache, said):
    """No file may be larger than 1,024 bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
    try:
        data.load("criteo", folder, cache_dir=cache)
    except data.DataError as error:
        said.put(str(error))


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_behind(small_criteo, tmp_path):
    cache, said = tmp_path / "cache", processes.SimpleQueue()
    process = processes.Process(
        target=load_on_full_disk, args=[small_criteo, cache, said]
    )
    process.start()
    process.join()
    assert not said.empty()
    assert "cannot be written: File too large." in said.get()
    assert not list(cache.iterdir())
    data.load("criteo", small_criteo, cache_dir=cache)


def load_slowly(folder, cache, writes):
    """Stop in the middle of preparing."""
    write = stored.ColumnWriter.write

    def slowly(*args):
        write(*args)
        writes.set()
        time.sleep(60)

    stored.ColumnWriter.write = slowly
    data.load("criteo", folder, cache_dir=cache)


@pytest.mark.slow
def test_only_a_killed_process_has_its_remains_removed(small_criteo, tmp_path):
    cache = tmp_path / "cache"
    writes = processes.Event()
    process = processes.Process(
        target=load_slowly, args=[small_criteo, cache, writes]
    )
    process.start()
    assert writes.wait(60)
    remains, lock = sorted(cache.iterdir())
    assert remains.name.endswith(".partial")
    assert lock.name == f"{remains.name}.lock"
    # While it is alive, another one prepares the same on its own.
    data.load("criteo", small_criteo, cache_dir=cache)
    (folder,) = {*cache.iterdir()} - {remains, lock}
    assert remains.exists()
    process.kill()
    process.join()
    shutil.rmtree(folder)
    data.load("criteo", small_criteo, cache_dir=cache)
    assert list(cache.iterdir()) == [folder]


def test_whoever_is_slower_takes_what_is_there(
    small_criteo, tmp_path, monkeypatch
):
    """Two prepare the same at once, in one process."""
    cache, times = tmp_path / "cache", []
    rename = Path.rename

    def after_another(path, target):
        times.append(path)
        if len(times) == 1:
            data.load("criteo", small_criteo, cache_dir=cache)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", after_another)
    dataset = data.load("criteo", small_criteo, cache_dir=cache)
    assert len(times) == 2
    assert len([*cache.iterdir()]) == 1
    assert len(dataset.train) > 1000


@pytest.mark.parametrize("change", ["longer", "shorter", "other"])
def test_a_file_that_changes_meanwhile_is_an_error(
    small_criteo, tmp_path, monkeypatch, change
):
    path = small_criteo / "train.txt"
    content = path.read_bytes()

    def change_it(line):
        if "numbering" in line:
            path.write_bytes(
                {
                    "longer": content * 2,
                    "shorter": content[: content.index(b"\n", 9999) + 1],
                    "other": content.replace(b"\t1\t", b"\t2\t"),
                }[change]
            )

    monkeypatch.setattr("keras_pep.data.prepare.logger.info", change_it)
    with pytest.raises(DataError, match="has changed while it was read"):
        data.load("criteo", small_criteo, cache_dir=tmp_path / "c")
    assert not list((tmp_path / "c").iterdir())


def test_there_may_be_more_columns_than_open_files(tmp_path):
    path = tmp_path / "wide.csv"
    names = [f"c{n}" for n in range(100)]
    table = pd.DataFrame({name: np.arange(300) % 2 for name in names})
    table.assign(y=np.arange(300) // 7 % 2).to_csv(path, index=False)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, limit[1]))
    try:
        dataset = data.load(path, label="y")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert dataset.feature_count == 300


def test_a_sample_of_numbers_stays_small_and_fair(monkeypatch):
    monkeypatch.setattr("keras_pep.data.fitting._SAMPLED", 5000)
    sample = Sample(np.random.default_rng(0))
    for start in range(0, 100_000, 1000):
        sample.add(np.arange(start, start + 1000, dtype=float))
    assert 2000 < sample.numbers.size <= 5000
    edges = sample.edges()
    assert len(edges) == 31
    # Quantiles of a sample of n deviate by at most 0.5 / sqrt(n) each.
    np.testing.assert_allclose(
        edges, 100_000 * np.arange(1, 32) / 32, atol=4 * 0.5e5 / 2000**0.5
    )
    few = Sample(np.random.default_rng(0))
    few.add(np.array([1.0, 2.0, np.nan, np.inf, 2.0, 3.0]))
    assert few.edges() == (2.0, 3.0)  # below 2, 2, 3
    assert Sample(np.random.default_rng(0)).edges() == ()


def test_columns_read_what_they_are_asked_for(small_criteo):
    on_disk = data.load("criteo", small_criteo, in_memory=0)
    whole = data.load("criteo", small_criteo).train.ids
    ids = on_disk.train.ids
    assert ids.shape == whole.shape == (len(ids), 39)
    np.testing.assert_array_equal(ids[5:9], whole[5:9])
    np.testing.assert_array_equal(ids[np.array([7, 2, 2])], whole[[7, 2, 2]])


def test_the_description_says_what_there_is(small_criteo):
    dataset = data.load("criteo", small_criteo)
    text = str(dataset)
    assert "criteo, features paper" in text
    assert f"train {len(dataset.train):,} (" in text
    assert f"features: {dataset.feature_count:,} in 39 fields (I1 " in text
    share = dataset.unknown["test"].mean()
    assert f"test {share:.2%}" in text
    lines = dataset.table().splitlines()
    assert len(lines) == 40
    assert lines[1].split() == [
        "I1",
        "log",
        f"{dataset.field_sizes[0]:,}",
        *(f"{dataset.unknown[s][0]:.2%}" for s in dataset.splits),
    ]
