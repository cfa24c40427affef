"""How each column was taken is told, with figures that pandas has too."""

import numpy as np
import pandas as pd
import pytest

from keras_pep import data


@pytest.fixture
def own(tmp_path):
    random = np.random.default_rng(0)
    rows = 1000
    frame = pd.DataFrame(
        {
            "": np.arange(rows),
            "user": random.integers(0, 300, rows),
            "shop": random.choice(["Łódź", "a\tb", "", "nan"], rows),
            "price": random.lognormal(size=rows).round(3),
            "always": "same",
            "when": pd.Timestamp("2026-11-01")
            + pd.to_timedelta(random.integers(0, 86_400 * 20, rows), unit="s"),
            "tags": random.choice(["x|y", "z", ""], rows),
            "stars": random.integers(1, 6, rows),
            "pay": random.random(rows).round(2),
        }
    )
    path = tmp_path / "own.csv"
    frame.loc[::7, "price"] = None
    frame.to_csv(path, index=False)
    return path, pd.read_csv(path, dtype=str, na_filter=False)


def load(path, **settings):
    return data.load(
        path, label="stars", positive=">=4", min_count=1, **settings
    )


def test_columns_are_told_as_a_slow_version_counts_them(own):
    path, frame = own
    dataset = load(path, weight="pay")
    told = {(each.column, each.kind): each for each in dataset.columns}
    assert [(each.column, each.kind, each.why) for each in dataset.columns] == [
        ("user", "category", "text or whole numbers"),
        ("shop", "category", "text or whole numbers"),
        ("price", "number", "numbers with fractions"),
        (
            "always",
            "left out",
            "of no use: every training row has the same value 'same'",
        ),
        ("when", "hour", "times"),
        ("when", "weekday", "times"),
        ("tags", "list", "text divided by |"),
        ("stars", "label", "positive if >=4"),
        ("pay", "weight", "by --weight"),
        ("", "left out", "row numbers"),
    ]
    drawn = np.random.default_rng(0).random(1000)
    train, test = drawn < 0.8, drawn >= 0.9
    users = frame["user"]
    seen = users[train].unique()
    user = told["user", "category"]
    assert user.distinct == len(seen)
    assert user.unseen == (~users[test].isin(seen)).mean() > 0
    assert (user.missing, user.example) == (0, users[0])
    shop = told["shop", "category"]  # to which nan is the missing value
    missing = frame["shop"].isin(["", "nan"])
    assert shop.distinct == 2
    assert shop.missing == pytest.approx(missing[train].mean())
    price = told["price", "number"]
    assert price.distinct == 32
    assert price.missing == pytest.approx((frame["price"] == "")[train].mean())
    assert price.example == frame["price"][1]
    assert told["tags", "list"].distinct == 3
    assert told["when", "weekday"].distinct == 7
    assert told["stars", "label"].example == frame["stars"][0]


def test_the_table_is_for_people(own, tmp_path):
    path, frame = own
    dataset = load(path, fields=["user:hash(20)", "shop"], split="time:when")
    title, *lines = dataset.parsed().splitlines()
    assert title.split() == [*data.dataset.PARSED]
    user, shop, label, split, *others = lines  # the first of these is unnamed
    assert user.split()[:3] == ["user", "hash", "20"]
    assert user.endswith("as --fields says")
    assert shop.split()[:3] == ["shop", "category", "2"]
    assert label.startswith("stars   label")
    assert split.startswith("when    split")
    assert split.endswith("by --split")
    assert [line.split()[0] for line in others[1:]] == [
        *("price", "always", "tags", "pay")
    ]
    assert all("  left out  " in line for line in others)
    assert all(line.endswith("  not in --fields") for line in others)
    wide = pd.DataFrame({f"c{n}": frame["user"] for n in range(60)})
    wide["y"] = [0, 1] * 500
    wide.to_csv(tmp_path / "wide.csv", index=False)
    lines = data.load(tmp_path / "wide.csv", label="y").parsed().splitlines()
    assert len(lines) == 42
    assert lines[-1] == "and 21 columns more, in metrics.json"


def test_files_alone_are_told():
    assert data.load("synthetic").parsed() == ""
