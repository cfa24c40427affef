"""Data that go on from the vocabularies of earlier ones."""

import numpy as np
import pandas as pd
import pytest

from keras_pep.data import DataError, Earlier, Field, Vocabulary, load


def write(path, users, prices, tags="a|b"):
    lines = [
        f"{user},{price},{tags},{n % 2}\n"
        for n, (user, price) in enumerate(zip(users, prices, strict=True))
    ]
    path.write_text("user,price,tags,y\n" + "".join(lines))
    return path


def users_of(seen):
    rows = pd.read_parquet(seen)
    return dict(rows[rows["field"] == "user"][["value", "times"]].to_numpy())


def read(path, folder, earlier=None, **more):
    fields = ("user", "price:number", "tags:list")
    return load(
        path,
        label="y",
        fields=fields,
        cache_dir=folder,
        earlier=earlier,
        **{"min_count": 30, **more},
    )


@pytest.fixture
def days(tmp_path):
    """Ann is rare on the first day, and seen often enough after the second."""
    numbers = np.random.default_rng(0).random(400).round(3)
    users = ["bob"] * 380 + ["ann"] * 20
    first = read(write(tmp_path / "1.csv", users, numbers), tmp_path)
    users = ["cy"] * 370 + ["ann"] * 30
    path = write(tmp_path / "2.csv", users, 9 * numbers, "a|b|c")
    return first, path, tmp_path


def test_counts_add_up_and_ids_stay(days):
    first, path, folder = days
    assert list(first.vocabularies["user"]) == [None, "bob"]
    assert users_of(first.seen)["ann"] < 30
    earlier = Earlier(first.vocabularies, first.seen)
    second = read(path, folder, earlier)
    assert list(second.vocabularies["user"]) == [None, "bob", "cy", "ann"]
    for name, count in users_of(second.seen).items():
        before = users_of(first.seen).get(name, 0)
        today = users_of(read(path, folder).seen).get(name, 0)
        assert count == before + today
    ids = second.train.ids[:][:, 0]
    assert {*ids.tolist()} == {2, 3}


def test_old_counts_weigh_less_and_rare_values_go(days):
    first, path, folder = days
    earlier = Earlier(first.vocabularies, first.seen, 0.01, evict_below=10)
    found = read(path, folder, earlier).vocabularies["user"]
    assert list(found) == [None, None, "cy"]


def test_bins_and_lists_are_those_of_before(days):
    first, path, folder = days
    earlier = Earlier(first.vocabularies, first.seen)
    second = read(path, folder, earlier, min_count=1)
    for name, vocabulary in second.vocabularies.items():
        assert vocabulary.field == first.vocabularies[name].field
    # Most prices are above the last edge of the first day.
    known = second.vocabularies["price"]
    last = list(known).index(str(len(known.field.edges)))
    assert (second.train.ids[:][:, 1] == last).mean() > 0.8
    assert second.train.ids.shape == (len(second.train), 4)  # two tags of three


def test_what_data_go_on_from_is_part_of_where_they_are_kept(days):
    first, path, folder = days
    alone = read(path, folder)
    one, other = (
        read(path, folder, Earlier(first.vocabularies, first.seen, decay))
        for decay in (1.0, 0.1)
    )
    found = {x.fingerprint() for x in (alone, one, other)}
    assert len(found) == 3


def test_fields_without_unknown_values_are_refused():
    users = Vocabulary(Field("user", "user"), np.array(["ann"], object))
    with pytest.raises(DataError, match="no id for unknown values"):
        Earlier({"user": users})


def test_times_go_on_and_ids_are_capped(tmp_path):
    """Fields of one column, and no more ids than asked for."""

    def read(name, users, **more):
        rows = [
            f"{n % 2},u{n % users},2026-11-{1 + n % 9:02} 10:00:00"
            for n in range(600)
        ]
        path = tmp_path / name
        path.write_text("\n".join(["clicked,user,when", *rows]) + "\n")
        return load(path, label="clicked", cache_dir=tmp_path / "cache", **more)

    first = read("a.csv", 5, max_values=8)
    assert first.fields == ("user", "when_weekday")
    earlier = Earlier(first.vocabularies, first.seen)
    second = read("b.csv", 20, max_values=8, earlier=earlier)
    assert second.fields == first.fields
    users = [*second.vocabularies["user"]]
    assert users[:6] == [*first.vocabularies["user"]]
    assert len(users) == 1 + 8
