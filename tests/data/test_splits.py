import logging
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from keras_pep import data
from keras_pep.data import DataError

SPLITS = ("train", "validation", "test")


@pytest.fixture
def own(tmp_path):
    """Writes rows with columns of their own, in no order of time."""

    def write(**columns):
        random = np.random.default_rng(1)
        rows = len(next(iter(columns.values())))
        frame = pd.DataFrame(
            {
                "user": np.arange(rows) // 3 % 400 + random.integers(0, 40),
                "price": random.lognormal(size=rows).round(3),
                "clicked": random.integers(0, 2, rows),
                **columns,
            }
        )
        path = tmp_path / "own.csv"
        frame.to_csv(path, index=False)
        return path, frame

    return write


def by_time(times):
    """Each row by its own, by the share of rows that are earlier."""
    before = times.rank(method="min") - 1
    share = before / len(times)
    return np.where(share < 0.8, 0, np.where(share < 0.9, 1, 2))


def assert_equal_to_slow_version(dataset, frame, places, min_count):
    """Rows, vocabularies, bins and what is not seen, by pandas."""
    train = frame[places == 0]
    edges = np.quantile(train["price"], np.arange(1, 32) / 32, method="higher")
    values = {
        "user": frame["user"].astype(str),
        "price": pd.Series(
            np.searchsorted(np.unique(edges), frame["price"], "right")
        ).astype(str),
    }
    assert {*values} <= {*dataset.fields}
    for name, column in values.items():
        place = dataset.fields.index(name)
        occurs = column[places == 0].value_counts()
        known = sorted(occurs[occurs >= min_count].index)
        assert list(dataset.vocabularies[name]) == [None, *known]
        ids = {value: number for number, value in enumerate(known, 1)}
        for n, split in enumerate(SPLITS):
            np.testing.assert_array_equal(
                dataset.splits[split].ids[:][:, place],
                [ids.get(value, 0) for value in column[places == n]],
            )
        tested = column[places == 2]
        new = tested[~tested.isin(occurs.index)]
        assert dataset.unseen[name] == (new.nunique(), len(new) / len(tested))
    for n, split in enumerate(SPLITS):
        np.testing.assert_array_equal(
            dataset.splits[split].labels, frame["clicked"][places == n]
        )
    assert [len(s) for s in dataset.splits.values()] == [
        np.sum(places == n) for n in range(3)
    ]


def shuffled_seconds():
    """Some 1,500 moments of 3,000 rows, at odd seconds, as often as not two
    within one minute; users come with time."""
    random = np.random.default_rng(0)
    return random.permutation(1_700_000_000 + np.arange(3000) // 2 * 17)


WRITTEN = {
    "seconds": (str, ""),
    "rank": (lambda s: str((s - 1_700_000_000) // 17 - 700), ""),
    "fraction": (lambda s: str((s - 1_700_000_000) / 1e6), ""),
    "iso": (lambda s: f"{pd.Timestamp(s, unit='s')}", ""),
    "zone": (
        lambda s: pd.Timestamp(s, unit="s", tz="Asia/Tokyo").isoformat(),
        "",
    ),
    "compact": (
        lambda s: pd.Timestamp(s, unit="s").strftime("%Y%m%dT%H%M%S"),
        "",
    ),
    "american": (
        lambda s: pd.Timestamp(s, unit="s").strftime("%m/%d/%Y %I:%M:%S %p"),
        "(%m/%d/%Y %I:%M:%S %p)",
    ),
}


@pytest.mark.parametrize("written", WRITTEN)
def test_by_time_equals_a_slow_version(own, written):
    seconds = shuffled_seconds()
    write, time_format = WRITTEN[written]
    late = np.random.default_rng(2).integers(0, 9000, 3000)
    users = (seconds - seconds.min() - late) // 50
    path, frame = own(when=[write(s) for s in seconds], user=users)
    dataset = data.load(
        path,
        label="clicked",
        fields=["user", "price:number"],
        split=f"time:when{time_format}",
        min_count=2,
    )
    places = by_time(pd.Series(seconds))
    assert_equal_to_slow_version(dataset, frame, places, min_count=2)
    assert 0.1 < dataset.unseen["user"].share < 0.9
    assert dataset.malformed == 0


def test_ties_stay_with_the_first_of_them(own):
    days = np.repeat([1, 2, 3, 4], [700, 150, 100, 50])
    path, frame = own(day=np.random.default_rng(0).permutation(days))
    dataset = data.load(
        path,
        label="clicked",
        fields=["user", "price:number"],
        split="time:day",
        min_count=1,
    )
    # 700 of 1,000 rows are before the second day, 850 before the third.
    assert [len(s) for s in dataset.splits.values()] == [850, 100, 50]
    places = by_time(frame["day"])
    assert_equal_to_slow_version(dataset, frame, places, min_count=1)


def test_many_blocks_of_times_count_as_one(own, monkeypatch):
    monkeypatch.setattr("keras_pep.data.rows._BLOCK", 4096)
    monkeypatch.setattr("keras_pep.data.splits._PENDING", 100)
    seconds = shuffled_seconds()
    path, frame = own(when=seconds)
    dataset = data.load(
        path,
        label="clicked",
        fields=["user", "price:number"],
        split="time:when",
        min_count=2,
    )
    places = by_time(pd.Series(seconds))
    assert_equal_to_slow_version(dataset, frame, places, min_count=2)


def test_a_format_of_a_field_is_that_of_the_split(own):
    seconds = shuffled_seconds()
    when = pd.Series(pd.to_datetime(seconds, unit="s"))
    path, _ = own(when=when.dt.strftime("%d.%m.%Y %H:%M"))
    dataset = data.load(
        path,
        label="clicked",
        fields=["user", "when:time(%d.%m.%Y %H:%M)"],
        split="time:when",
    )
    places = by_time(when.dt.floor("min"))
    assert [len(s) for s in dataset.splits.values()] == [
        np.sum(places == n) for n in range(3)
    ]


def test_by_column_equals_a_slow_version(own):
    places = np.random.default_rng(0).choice(3, 3000, p=[0.5, 0.2, 0.3])
    words = np.array(["train", " Validation", "TEST"])[places]
    path, frame = own(part=words)
    dataset = data.load(path, label="clicked", split="column:part", min_count=3)
    assert dataset.fields == ("user", "price")  # and not the part
    assert_equal_to_slow_version(dataset, frame, places, min_count=3)


@pytest.mark.parametrize(
    ("given", "form"),
    [
        *(("both", "csv"), ("both", "parquet")),
        *(("validation", "csv"), ("test", "parquet")),
    ],
)
def test_by_files_equals_a_slow_version(own, tmp_path, given, form):
    _, frame = own(other=["a"] * 3000)
    files = np.repeat([0, 1, 2], [2000, 600, 400])
    folder = tmp_path / "training"
    folder.mkdir()
    parts = {
        folder / f"1.{form}": frame[:1500],
        folder / f"2.{form}": frame[1500:2000],
        tmp_path / f"v.{form}": frame[2000:2600],
        tmp_path / f"t.{form}": frame[2600:],
    }
    for path, part in parts.items():
        if form == "csv":
            part.to_csv(path, index=False)
        else:
            part.to_parquet(path)
    others = {
        "validation_file": tmp_path / f"v.{form}",
        "test_file": tmp_path / f"t.{form}",
    }
    drawn = np.random.default_rng(4).random(2000)
    if given == "validation":
        del others["test_file"]
        files[:2000][drawn >= 0.9] = 2
        rows = 2600
    elif given == "test":
        del others["validation_file"]
        files[:2000][drawn < 0.1] = 1
        rows = [*range(2000), *range(2600, 3000)]
    if given != "both":
        frame, files = (
            (frame[:rows], files[:rows])
            if given == "validation"
            else (frame.iloc[rows], files[rows])
        )
    dataset = data.load(
        folder,
        label="clicked",
        fields=["user", "price:number"],
        min_count=3,
        seed=4,
        **others,
    )
    assert_equal_to_slow_version(dataset, frame, files, min_count=3)
    notes = [note for note in dataset.notes if "a tenth of its rows" in note]
    missing = {"validation": "test", "test": "validation"}.get(given)
    assert len(notes) == (given != "both")
    assert given == "both" or f"there is no --{missing}-file" in notes[0]


def test_a_file_is_of_one_split_and_has_the_same_columns(own, tmp_path):
    path, frame = own(other=["a"] * 3000)
    with pytest.raises(DataError, match=r"own\.csv in two of the sets for"):
        data.load(path, label="clicked", test_file=path)
    other = tmp_path / "other.csv"
    frame.drop(columns="other").to_csv(other, index=False)
    with pytest.raises(DataError, match=r"other\.csv: found the columns"):
        data.load(path, label="clicked", test_file=other)
    with pytest.raises(DataError, match="and split 'time:user', expected"):
        data.load(path, label="clicked", split="time:user", test_file=other)
    with pytest.raises(DataError, match="and the dataset 'synthetic', expec"):
        data.load("synthetic", validation_file=other)


def test_at_random_equals_a_slow_version(own):
    path, frame = own(other=["a"] * 3000)
    dataset = data.load(
        path, label="clicked", fields=["user", "price:number"], seed=4
    )
    ends = np.random.default_rng(4).random(3000)
    places = np.searchsorted([0.8, 0.9], ends, "right")
    assert_equal_to_slow_version(dataset, frame, places, min_count=10)


@pytest.mark.parametrize("split", ["random", "time"])
def test_movielens_equals_a_slow_version(small_movielens, split):
    dataset = data.load("movielens", small_movielens, split=split, seed=2)
    ratings = pd.DataFrame(
        [
            [int(text) for text in line.split("::")]
            for line in (small_movielens / "ratings.dat")
            .read_text()
            .splitlines()
        ],
        columns=["user_id", "movie_id", "rating", "timestamp"],
    ).sort_values(["user_id", "movie_id", "rating", "timestamp"])
    ratings = ratings[ratings["rating"] != 3].reset_index(drop=True)
    if split == "time":
        places = by_time(ratings["timestamp"])
    else:
        order = np.random.default_rng(2).permutation(len(ratings))
        ends = [int(0.8 * len(ratings)), int(0.9 * len(ratings))]
        parts = np.split(order, ends)
    for n, (name, rows) in enumerate(dataset.splits.items()):
        part = places == n if split == "time" else parts[n]
        expected = ratings[part] if split == "time" else ratings.iloc[part]
        np.testing.assert_array_equal(rows.labels, expected["rating"] > 3)
        train = (
            ratings[places == 0] if split == "time" else ratings.iloc[parts[0]]
        )
        for field in ("user_id", "movie_id"):
            place = dataset.fields.index(field)
            vocabulary = dataset.vocabularies[field]
            found = [vocabulary[i] for i in rows.ids[:, place]]
            seen = {*train[field]}
            if split == "time":
                assert list(vocabulary) == [None, *sorted(seen)]
                wanted = [v if v in seen else None for v in expected[field]]
                share = np.mean([v is None for v in wanted])
                assert dataset.unknown[name][place] == pytest.approx(share)
            else:
                wanted = expected[field].tolist()
            assert found == wanted
            if name == "test":
                new = [v for v in expected[field] if v not in seen]
                assert dataset.unseen[field].distinct == len({*new})
                assert dataset.unseen[field].share == pytest.approx(
                    len(new) / len(expected)
                )


def test_movielens_by_user_equals_a_slow_version(small_movielens):
    dataset = data.load("movielens", small_movielens, split="user")
    ratings = pd.read_csv(
        small_movielens / "ratings.dat",
        sep="::",
        engine="python",
        names=["user", "movie", "rating", "time"],
    )
    ratings = ratings[ratings["rating"] != 3]
    expected = {name: [] for name in SPLITS}
    for _, rated in ratings.groupby("user"):
        order = rated.sort_values(["time", "movie"]).index
        last = len(order) - 2 if len(order) > 2 else len(order)
        expected["train"] += [*order[:last]]
        expected["validation"] += [*order[last : last + 1]]
        expected["test"] += [*order[last + 1 :]]
    assert min(map(len, expected.values())) > 20
    movies = {*ratings["movie"][expected["train"]]}
    for name, split in dataset.splits.items():
        found = [
            (
                dataset.vocabularies["user_id"][user],
                dataset.vocabularies["movie_id"][movie],
                bool(label),
            )
            for user, movie, label in zip(
                *split.ids[:, :2].T, split.labels, strict=True
            )
        ]
        rows = ratings.loc[expected[name]]
        wanted = [
            (user, movie if movie in movies else None, rating > 3)
            for user, movie, rating in zip(
                *(rows["user"], rows["movie"], rows["rating"]), strict=True
            )
        ]
        assert Counter(found) == Counter(wanted)


def test_criteo_by_order_equals_a_slow_version(small_criteo):
    dataset = data.load("criteo", small_criteo, split="time", min_count=2)
    rows = [
        line.split("\t")
        for line in (small_criteo / "train.txt").read_text().splitlines()
    ]
    parts = rows[:1600], rows[1600:1800], rows[1800:]
    occurs = Counter(row[-1] for row in parts[0])
    known = sorted(value for value, times in occurs.items() if times > 1)
    assert list(dataset.vocabularies["C26"]) == [None, *known]
    ids = {value: number for number, value in enumerate(known, 1)}
    for split, part in zip(dataset.splits.values(), parts, strict=True):
        assert split.labels.tolist() == [int(row[0]) for row in part]
        assert split.ids[:, -1].tolist() == [ids.get(r[-1], 0) for r in part]


def test_avazu_by_hour_equals_a_slow_version(small_avazu):
    frame = pd.read_csv(small_avazu / "train.gz", dtype=str)
    frame.loc[::6, "hour"] = "14103023"  # an hour of 167 rows
    frame.to_csv(small_avazu / "train", index=False)
    dataset = data.load("avazu", small_avazu, split="time", min_count=1)
    hours = frame["hour"].astype(int)
    before = (hours.rank(method="min") - 1).to_numpy()
    size = hours.map(hours.value_counts()).to_numpy()
    # Where a share ends within an hour, its rows are on both sides of it.
    drawn = np.random.default_rng(0).random(1000)
    places = np.searchsorted([800, 900], before + drawn * size, "right")
    assert {*places[::6]} == {1, 2}
    for n, split in enumerate(dataset.splits.values()):
        part = frame[places == n]
        assert split.labels.tolist() == part["click"].astype(int).tolist()
        vocabulary = dataset.vocabularies["C21"]
        seen = {*frame["C21"][places == 0]}
        assert [vocabulary[i] for i in split.ids[:, -1]] == [
            value if value in seen else None for value in part["C21"]
        ]


def test_what_is_prepared_by_another_rule_is_not_taken(own, tmp_path, caplog):
    caplog.set_level(logging.INFO, "keras_pep")
    seconds = shuffled_seconds()
    parts = np.array(SPLITS)[np.arange(3000) % 3]
    path, _ = own(when=seconds, part=parts)
    found = []
    for split in ("random", "time:when", "column:part", "time:when"):
        caplog.clear()
        dataset = data.load(
            path,
            label="clicked",
            fields=["user"],
            split=split,
            cache_dir=tmp_path / "cache",
        )
        found.append(dataset.fingerprint())
    assert "own: counting values" not in caplog.messages
    assert found[1] == found[3]
    assert len({*found}) == 3
    assert len([*(tmp_path / "cache").iterdir()]) == 3


@pytest.mark.parametrize(
    ("split", "when", "found"),
    [
        ("time:When", "1", "found no column 'When'.*Did you mean 'when'"),
        ("time", "1", "found the split 'time', expected random or time:COL"),
        ("column:", "1", "found the split 'column:', expected random or"),
        ("time:clicked", "1", "'clicked' is the label, and cannot say how"),
        ("column:user", "1", "'user' is a field, and cannot say how"),
        ("time:when(%Q)", "1", "found %Q in the time format"),
        ("time:when", "soon", "row 8: found 'soon' in column 'when', expected"),
        ("time:when", "", "row 8: found '' in column 'when', expected a numb"),
        ("time:when", "2026-11-22", "found numbers and written times in col"),
        ("column:when", "train", "row 1: found '1.*expected train, valid"),
    ],
)
def test_a_split_that_cannot_be_is_an_error(own, split, when, found):
    seconds = shuffled_seconds().astype(str).astype(object)
    seconds[7] = when
    path, _ = own(when=seconds)
    with pytest.raises(DataError, match=found):
        data.load(
            path,
            label="clicked",
            fields=["user"],
            split=split,
            max_bad_rows=0.0,
        )


@pytest.mark.parametrize("name", ["synthetic", "criteo", "movielens"])
def test_named_datasets_have_their_own_splits(name):
    with pytest.raises(DataError, match=rf"'time:when', .* for {name}\."):
        data.load(name, split="time:when")
