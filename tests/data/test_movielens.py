import math
from collections import Counter

import numpy as np
import pytest

from keras_pep import data
from keras_pep.data import DataError


def slow_rows(folder, full):
    """The preparation in plain Python, one rating at a time."""
    users, movies, ratings = (
        [
            line.split("::")
            for line in (folder / name)
            .read_text(encoding="latin-1")
            .splitlines()
        ]
        for name in ("users.dat", "movies.dat", "ratings.dat")
    )
    users = {user: rest for user, *rest in users}
    movies = {movie: rest for movie, *rest in movies}
    ratings = [r for r in ratings if r[2] != "3"]
    first = min(int(time) for *_, time in ratings)
    for user, movie, rating, time in ratings:
        gender, age, occupation, zip_code = users[user]
        title, genres = movies[movie]
        seconds = int(time) - first
        time_bin = int(math.log(seconds) ** 2) if seconds > 2 else seconds - 2
        row = (
            time_bin,
            gender,
            int(age),
            int(occupation),
            zip_code,
            title[-5:-1],
            genres,
        )
        ids = (int(user), int(movie)) if full else ()
        yield (*ids, *row), float(int(rating) > 3)


def decoded(dataset):
    vocabularies = list(dataset.vocabularies.values())
    for split in dataset.splits.values():
        for ids, label in zip(split.ids, split.labels, strict=True):
            row = (v[i] for v, i in zip(vocabularies, ids, strict=True))
            yield tuple(row), float(label)


@pytest.mark.parametrize("features", ["paper", "full"])
def test_rows_equal_those_of_a_slow_reader(small_movielens, features):
    dataset = data.load("movielens", small_movielens, features=features)
    assert Counter(decoded(dataset)) == Counter(
        slow_rows(small_movielens, features == "full")
    )
    assert dataset.malformed == 0


def test_splits_are_by_seed(small_movielens):
    one, same, other = (
        data.load("movielens", small_movielens, seed=seed) for seed in (1, 1, 2)
    )
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()
    total = sum(len(split) for split in one.splits.values())
    assert [len(split) for split in one.splits.values()] == [
        int(0.8 * total),
        int(0.9 * total) - int(0.8 * total),
        total - int(0.9 * total),
    ]


@pytest.mark.slow
def test_real_facts_and_rows(ml_1m):
    paper = data.load("movielens", ml_1m, features="paper")
    assert [len(split) for split in paper.splits.values()] == [
        591_209,
        73_901,
        73_902,
    ]
    assert dict(zip(paper.fields, paper.field_sizes, strict=True)) == {
        "time_bin": 278,
        "gender": 2,
        "age": 7,
        "occupation": 21,
        "zip": 3439,
        "year": 81,
        "genres": 301,
    }
    labels = np.concatenate([s.labels for s in paper.splits.values()])
    assert round(labels.mean(), 4) == 0.7784
    full = data.load("movielens", ml_1m, features="full")
    assert full.feature_count == 13_837
    assert full.field_sizes[:2] == (6040, 3668)

    expected = Counter(slow_rows(ml_1m, full=True))
    vocabularies = list(full.vocabularies.values())
    random = np.random.default_rng(0)
    for place in random.choice(len(full.train), 1000, replace=False):
        ids = full.train.ids[place]
        row = tuple(v[i] for v, i in zip(vocabularies, ids, strict=True))
        assert expected[row, float(full.train.labels[place])] > 0


def test_nothing_given_says_where_to_get_it():
    with pytest.raises(DataError, match=r"grouplens\.org.*--data-dir"):
        data.load("movielens")


def test_missing_files_are_named(small_movielens, tmp_path):
    with pytest.raises(
        DataError, match=r"no such folder.*ratings\.dat, users\.dat, movies"
    ):
        data.load("movielens", tmp_path / "nowhere")
    (small_movielens / "users.dat").unlink()
    with pytest.raises(DataError, match=r"found no users\.dat in"):
        data.load("movielens", small_movielens)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("ratings.dat", "1::2::5"),  # too few fields
        ("ratings.dat", "1::2::6::978300000"),  # no such rating
        ("ratings.dat", "1::2::0::978300000"),
        ("ratings.dat", "99::2::5::978300000"),  # no such user
        ("ratings.dat", "1::99::5::978300000"),  # no such movie
        ("ratings.dat", "1::two::5::978300000"),
        ("ratings.dat", ""),
        ("users.dat", "51::X::1::1::12345"),
        ("users.dat", "3::F::1::1::12345"),  # user 3 a second time
        ("movies.dat", "3::Another Part 3 (1990)::Drama"),
        ("movies.dat", "41::A title without a year::Drama"),
    ],
)
def test_a_malformed_line_is_an_error_or_counted(small_movielens, name, line):
    clean = data.load("movielens", small_movielens)
    path = small_movielens / name
    lines = path.read_text(encoding="latin-1").splitlines()
    lines.insert(7, line)
    path.write_text("\n".join(lines) + "\n", encoding="latin-1")

    with pytest.raises(DataError) as error:
        data.load("movielens", small_movielens, max_bad_rows=0.0)
    assert f"{name}, line 8: found {line!r}, expected " in str(error.value)

    dataset = data.load("movielens", small_movielens, max_bad_rows=0.05)
    assert dataset.malformed == 1
    assert dataset.fingerprint() == clean.fingerprint()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "1::2::3::978300000\n" * 10,  # none decided
        "1::2::5::978300000\n" * 100,  # all positive
        "1::2::5::978300000\n1::3::1::978300000\n",  # nothing to validate on
    ],
)
def test_a_file_with_nothing_to_learn_from(small_movielens, content):
    (small_movielens / "ratings.dat").write_text(content)
    with pytest.raises(DataError, match=r"found .* expected"):
        data.load("movielens", small_movielens)


def test_unknown_names_are_refused(small_movielens):
    with pytest.raises(DataError, match=r"'netflix'.*movielens, .*synthetic"):
        data.load("netflix")
    with pytest.raises(DataError, match="'all'"):
        data.load("movielens", small_movielens, features="all")
