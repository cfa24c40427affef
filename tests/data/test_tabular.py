import csv
import gzip
import logging
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from keras_pep import data
from keras_pep.data import DataError
from keras_pep.data.fields import Field
from keras_pep.data.guess import guess

ROWS = 3000


@pytest.fixture
def table():
    """What a stranger's file might hold."""
    random = np.random.default_rng(5)  # another than of the split
    names = ["Łódź, PL", 'the "best" one', "東京", "line\nbreak", "plain", ""]
    # A tenth of the rows has shops that no other row has.
    shop = np.where(
        random.random(ROWS) < 0.9,
        random.integers(0, 20, ROWS),
        100 + np.arange(ROWS),
    )
    tags = np.array(["red", "green", "blue", "grün"])
    return pd.DataFrame(
        {
            "shop": shop,
            "place": random.choice(names, ROWS),
            "price": [
                "" if random.random() < 0.2 else f"{random.lognormal():.4f}"
                for _ in range(ROWS)
            ],
            "always": "the same",
            "tags": [
                "|".join(random.choice(tags, random.integers(0, 4)))
                for _ in range(ROWS)
            ],
            "seen_at": [
                str(np.datetime64("2026-03-01T10:00:00") + 3700 * n)
                for n in range(ROWS)
            ],
            "clicked": (shop % 2 == 0).astype(int),
        }
    )


def write(table, path):
    if path.suffix == ".parquet":
        typed = table.assign(
            price=pd.to_numeric(table["price"]),
            seen_at=pd.to_datetime(table["seen_at"]),
            clicked=table["clicked"].astype(bool),
            place=[place or None for place in table["place"]],
        )
        pq.write_table(pa.Table.from_pandas(typed), path)
    else:
        table.to_csv(
            path, index=False, sep="\t" if ".tsv" in path.name else ","
        )
    return path


def rows_of(dataset):
    """Every row's values, with lists as tuples, and its label."""
    lengths = np.cumsum(dataset.field_lengths)
    for name, split in dataset.splits.items():
        for ids, label in zip(split.ids, split.labels, strict=True):
            row = []
            for part, vocabulary in zip(
                np.split(ids, lengths[:-1]),
                dataset.vocabularies.values(),
                strict=True,
            ):
                row.append(tuple(vocabulary[i] for i in part if i >= 0))
            yield name, tuple(row), float(label)


def slow_rows(table, dataset, seed=0, min_count=10):
    """The same in plain Python."""
    ends = np.random.default_rng(seed).random(len(table))
    part = np.searchsorted([0.8, 0.9], ends, side="right")
    prices = [
        float(p)
        for p, n in zip(table["price"], part, strict=True)
        if p and n == 0
    ]
    edges = np.unique(
        np.quantile(prices, np.arange(1, 32) / 32, method="higher")
    )
    assert dataset.vocabularies["price"].field.edges == tuple(edges)
    made = []
    for row in table.itertuples():
        price = (
            str(sum(e <= float(row.price) for e in edges)) if row.price else ""
        )
        time = pd.Timestamp(row.seen_at)
        tags = dict.fromkeys(tag for tag in row.tags.split("|") if tag)
        made.append(
            [
                (str(row.shop),),
                (row.place,),
                (price,),
                tuple(tags) or ("",),
                (str(time.hour),),
                (str(time.weekday()),),
            ]
        )
    counts = [{} for _ in made[0]]
    for row, n in zip(made, part, strict=True):
        if n == 0:
            for count, values in zip(counts, row, strict=True):
                for value in values:
                    count[value] = count.get(value, 0) + 1
    for row, n, label in zip(made, part, table["clicked"], strict=True):
        known = tuple(
            tuple(v if count.get(v, 0) >= min_count else None for v in values)
            for count, values in zip(counts, row, strict=True)
        )
        yield ("train", "validation", "test")[n], known, float(label)


@pytest.mark.parametrize(
    "name", ["own.csv", "own.tsv", "own.parquet", "own.csv.gz"]
)
def test_rows_equal_those_of_a_slow_reader(table, tmp_path, name):
    path = write(table, tmp_path / name)
    dataset = data.load(path, label="clicked")
    assert dataset.name == "own"
    assert dataset.fields == (
        "shop",
        "place",
        "price",
        "tags",
        "seen_at_hour",
        "seen_at_weekday",
    )
    assert dataset.notes == (
        "always: of no use, every training row has the same value 'the same'. "
        "It is left out; always:category in --fields keeps it.",
    )
    expected = sorted(slow_rows(table, dataset), key=repr)
    assert sorted(rows_of(dataset), key=repr) == expected
    unknown = dataset.unknown["test"][0]
    assert 0.05 < unknown < 0.15  # four deviations of a tenth of 300


def test_parts_in_a_folder_are_one_file(table, tmp_path):
    whole = data.load(write(table, tmp_path / "own.csv"), label="clicked")
    folder = tmp_path / "own"
    folder.mkdir()
    for number, start in enumerate(range(0, ROWS, 700)):
        write(table[start : start + 700], folder / f"part-{number}.csv")
    (folder / "_SUCCESS").touch()
    parts = data.load(folder, label="clicked")
    for name, split in whole.splits.items():
        np.testing.assert_array_equal(split.ids, parts.splits[name].ids)


def test_fields_and_their_kinds_can_be_given(table, tmp_path):
    path = write(table, tmp_path / "own.csv")
    dataset = data.load(
        path,
        label="clicked",
        fields=["shop:number", "tags:category", "seen_at:hour"],
        min_count=1,
    )
    kinds = [v.field.kind for v in dataset.vocabularies.values()]
    assert kinds == ["number", "category", "hour"]
    assert "red|green" in list(dataset.vocabularies["tags"])
    for fields, found in [
        (["shop:price"], "'price'"),
        (["shops"], "no column 'shops'"),
        (["clicked"], "is the label"),
        (["seen_at:time", "seen_at"], "a field twice in seen_at:time, seen_at"),
        (["seen_at:category", "price:prize"], "found the kind 'prize'"),
    ]:
        with pytest.raises(DataError, match=found):
            data.load(path, label="clicked", fields=fields)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (["1", "-2", "+3", ""], "category"),
        (["1", "2.5", ""], "number"),
        (["1e3", "2"], "category"),
        (["a", "1"], "category"),
        (["a|b", "c"], "list"),
        (["a|b"] + [f"x{n}" for n in range(200)], "category"),
        (["2026-01-01", "2026-01-02"], "hour"),
        (["2026-01-01T10:00:00Z", "2026-01-02 11:00:00"], "hour"),
        (["1.0", "2.0", "nan"], "category"),
        (["1.5", "NA", "2"], "number"),
        (["1.5", "N/A", "-", "?", "#N/A", "n/a", "None", "2"], "number"),
        (["NA", "DE", "-", "?"], "category"),
        (["2026-11-01 9:30", "2026/1/2 10:00"], "hour"),
        (["2026-11-07 09:30:00 UTC", "2026-11-07 09:30:00.5+01:00"], "hour"),
        (["2026-11-07 soon", "2026-11-08 soon"], "category"),
        (["2026-01-01", "NaT"], "hour"),
        (["", ""], "category"),
        ([], "category"),
    ],
)
def test_kinds_are_guessed(raw, kind):
    assert guess("column", raw).fields[0].kind == kind


def test_values_of_every_kind():
    def values(kind, raw, **settings):
        made, malformed = Field("f", "f", kind, **settings).values(raw)
        return made.tolist(), malformed.tolist()

    assert values("log", ["", "-1", "0", "2", "3", "100", "x"])[0][:6] == [
        "",
        "-3",
        "-2",
        "0",
        "1",
        "21",
    ]
    assert values("log", ["1.5", "x", "7"])[1] == [True, True, False]
    assert values(
        "number", ["NaN", "-1", "0", "5", "inf", "x"], edges=(0, 5)
    ) == (
        ["", "0", "1", "2", "2", ""],
        [False, False, False, False, False, True],
    )
    iso = ["2026-11-22 23:15:00", "", "yesterday"]
    assert values("hour", iso)[0][:2] == ["23", ""]
    assert values("weekday", iso)[0][:2] == ["6", ""]  # a Sunday
    assert values("hour", iso)[1] == [False, False, True]
    assert values(
        "hour", ["1700000000", "1700000000000", "20240102", "NaT"]
    ) == (
        ["22", "22", "0", ""],  # 14 November 2023, 22:13, twice
        [False] * 4,
    )
    # A nanosecond before 3 o'clock, and 3 o'clock; a float knows no difference.
    assert values(
        "hour",
        ["1500001199999999999", "1500001200000000000", "1500001200000000"],
    ) == (["2", "3", "3"], [False] * 3)
    assert values("weekday", ["20240102"])[0] == ["1"]  # a Tuesday
    assert values("hour", ["0", "3600", "1e20", "12"])[1] == [True] * 4
    assert values("log", ["1e300", "-inf", "NA"])[1] == [True, True, False]
    assert values("list", ["a|b|a", "", "|c"], length=2)[0] == [
        ["a", "b"],
        ["", None],
        ["c", None],
    ]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("", r"own\.csv: is empty, expected a header and rows"),
        ("a,b,clicked\n", r"own\.csv: has a header but no rows"),
        ("a,b,a,clicked\n1,2,3,0\n", "the column 'a' twice"),
        ("a,b\n1,2\n", "no column 'clicked', expected one of a, b"),
        ("a;b;clicked\n1;2;0\n", r"no column 'clicked'.*Is ',' what divides"),
        ("clicked\n1\n0\n", "no column but 'clicked'"),
        ("a,clicked\n1,yes\n2,no\n", "found 'yes' in column 'clicked'"),
        ("a,clicked\n1,0,3\n2,1\n", r"line 2: found 3 columns in '1,0,3'"),
    ],
)
def test_bad_files(tmp_path, content, found):
    path = tmp_path / "own.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=found):
        data.load(path, label="clicked", cache_dir=tmp_path / "cache")
    cache = tmp_path / "cache"
    assert not cache.exists() or not list(cache.iterdir())


def test_a_quote_that_nothing_closes_is_counted_by_its_lines(tmp_path):
    lines = [f"u{n % 20},{n % 2}" for n in range(2000)]
    path = tmp_path / "own.csv"
    lines[1500] = '"u1,1'
    path.write_text("\n".join(["user,clicked", *lines]) + "\n")
    with pytest.raises(
        DataError, match=r"line 1502: found 1 columns.*500 of 2,"
    ):
        data.load(path, label="clicked")
    lines[1600] = 'u1",1'  # the second closes it: a value of 101 lines
    path.write_text("\n".join(["user,clicked", *lines]) + "\n")
    with pytest.raises(DataError, match="fewer lines: is a quote missing"):
        data.load(path, label="clicked")
    dataset = data.load(path, label="clicked", max_bad_rows=0.1)
    assert dataset.malformed == 101
    assert sum(len(split) for split in dataset.splits.values()) == 1899


def test_long_lists_are_cut_and_counted(tmp_path, caplog):
    path = tmp_path / "own.csv"
    caplog.set_level(logging.INFO, "keras_pep")
    rows = [f"{'|'.join(map(str, range(n % 70)))},{n % 2}" for n in range(700)]
    path.write_text("\n".join(["tags,clicked", *rows]) + "\n")
    dataset = data.load(path, label="clicked")
    assert dataset.field_lengths == (64,)
    assert (
        "own: 50 lists of tags have more than 64 values" in caplog.messages[1]
    )


def test_hidden_and_empty_parts_do_not_count(table, tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    write(table, folder / "a.csv")
    (folder / "._a.csv").write_bytes(b"\0\1")
    (folder / "b.csv").touch()
    assert len(data.load(folder, label="clicked").train) > 2000
    (folder / "day1").mkdir()
    with pytest.raises(DataError, match=r"folder day1 in it, .* as day=2026"):
        data.load(folder, label="clicked")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_folders_that_name_values_equal_columns(tmp_path, form):
    """Spark, Hive and pandas write partitioned folders like these."""
    random = np.random.default_rng(0)
    folders = {
        f"day=2026-11-{day:02}/shop%2Fcity={name}": (f"2026-11-{day:02}", shop)
        for day in range(1, 11)
        for name, shop in (
            ("%C5%81%C3%B3d%C5%BA", "Łódź"),
            ("__HIVE_DEFAULT_PARTITION__", ""),
            ("a%20b", "a b"),
        )
    }

    def write(frame, path):
        if form == "csv":
            frame.to_csv(path, index=False)
        else:
            frame.to_parquet(path)

    parts = []
    for folder, (day, shop) in folders.items():
        part = pd.DataFrame(
            {
                "user": random.integers(0, 9, 20),
                "clicked": random.integers(0, 2, 20),
            }
        )
        (tmp_path / "rows" / folder).mkdir(parents=True)
        write(part, tmp_path / "rows" / folder / f"part-0.{form}")
        parts.append(part.assign(**{"day": day, "shop/city": shop}))
    (tmp_path / "rows" / "_delta_log").mkdir()
    (tmp_path / "whole").mkdir()
    write(pd.concat(parts), tmp_path / "whole" / f"rows.{form}")
    whole = tmp_path / "whole" / f"rows.{form}"
    for split in ("random", "time:day"):
        expected, found = (
            data.load(path, label="clicked", min_count=1, split=split)
            for path in (whole, tmp_path / "rows")
        )
        assert "shop/city" in found.fields
        assert found.fingerprint() == expected.fingerprint()
    assert [len(rows) for rows in found.splits.values()] == [480, 60, 60]
    # And as sets in files of their own.
    last = tmp_path / "test" / "day=2026-11-10"
    last.parent.mkdir()
    (tmp_path / "rows" / last.name).rename(last)
    found = data.load(tmp_path / "rows", label="clicked", test_file=last.parent)
    expected = pd.concat(parts[-3:])["clicked"].tolist()
    assert found.test.labels.tolist() == expected


def test_a_value_of_a_folder_can_be_the_only_column(tmp_path):
    for n in range(2):
        (tmp_path / "own" / f"clicked={n}").mkdir(parents=True)
        path = tmp_path / "own" / f"clicked={n}" / "a.csv"
        path.write_text("user\n" + "".join(f"{m % 5}\n" for m in range(99)))
    dataset = data.load(tmp_path / "own", label="clicked")
    assert dataset.fields == ("user",)
    assert sum(s.labels.sum() for s in dataset.splits.values()) == 99


def test_names_with_colons_commas_and_capitals(tmp_path):
    path = tmp_path / "OWN.CSV"
    rows = [f"{n % 3},{n % 5},{n % 2}" for n in range(500)]
    path.write_text("\n".join(['"a,b",c:id,clicked', *rows]) + "\n")
    dataset = data.load(path, label="clicked", fields=["a,b", "c:id"])
    assert dataset.fields == ("a,b", "c:id")
    with pytest.raises(DataError, match=r"ends in \.csv, \.tsv"):
        data.load(path.rename(tmp_path / "own.pq"), label="clicked")


def test_two_fields_of_one_name(tmp_path):
    path = tmp_path / "own.csv"
    rows = [f"2026-11-22 9:30,{n},{n % 2}" for n in range(500)]
    path.write_text("\n".join(["when,when_hour,clicked", *rows]))
    found = "'when_hour', of the columns 'when' and 'when_hour'. Expected: --f"
    with pytest.raises(DataError, match=re.escape(found)):
        data.load(path, label="clicked", cache_dir=tmp_path)
    fields = ["when:weekday", "when_hour"]
    made = data.load(
        path,
        **{"label": "clicked", "fields": fields, "cache_dir": tmp_path},
    )
    assert made.fields == ("when", "when_hour")


def test_bad_bytes(tmp_path, table):
    path = write(table, tmp_path / "own.csv")
    path.write_bytes(path.read_bytes().replace(b"the same", b"\xff\xfe", 1))
    with pytest.raises(
        DataError, match=r"found .*\\xff\\xfe.* in line 2, expected UTF-8"
    ):
        data.load(path, label="clicked")
    path.write_bytes("größe,clicked\n1,0\n".encode("latin-1"))
    with pytest.raises(
        DataError, match=r"found gr\\xf6\\xdfe,clicked in line 1, expected UTF"
    ):
        data.load(path, label="clicked")
    path = tmp_path / "own.csv.gz"
    path.write_bytes(gzip.compress(b"a,clicked\n")[:-4])
    with pytest.raises(DataError, match=r"own\.csv\.gz: cannot be read"):
        data.load(path, label="clicked")
    path = tmp_path / "own.parquet"
    path.write_bytes(b"PAR1 is how it begins")
    with pytest.raises(DataError, match=r"own\.parquet: cannot be read"):
        data.load(path, label="clicked")
    rows = {"clicked": [0, 1], "user": [1, 2], "tags": [["a"], ["b", "c"]]}
    pq.write_table(pa.table(rows), path)
    with pytest.raises(DataError, match=r"column 'tags' holds list<.*--fields"):
        data.load(path, label="clicked")


def test_nothing_to_read(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        data.load(tmp_path / "nowhere" / "own.csv", label="clicked")
    with pytest.raises(DataError, match="found none, expected parts"):
        data.load(tmp_path, label="clicked")
    (tmp_path / "a.csv").write_text("a,clicked\n")
    (tmp_path / "b.parquet").write_text("a,clicked\n")
    with pytest.raises(DataError, match=r"found a\.csv, b\.parquet, expected"):
        data.load(tmp_path, label="clicked")


def test_parts_of_other_columns(tmp_path, table):
    write(table, tmp_path / "a.csv")
    write(table.rename(columns={"shop": "store"}), tmp_path / "b.csv")
    with pytest.raises(DataError, match=r"b\.csv: found the columns store, "):
        data.load(tmp_path, label="clicked")


def test_parts_of_one_name_are_told_apart_by_their_folders(tmp_path, table):
    for day, shop in (("day=1", "shop"), ("day=2", "store")):
        (tmp_path / day).mkdir()
        part = table.rename(columns={"shop": shop})
        write(part, tmp_path / day / "part.csv")
    found = r"day=2.part\.csv: .* expected those of .*day=1.part\.csv, shop"
    with pytest.raises(DataError, match=found):
        data.load(tmp_path, label="clicked")


def test_the_label_has_to_be_named(tmp_path, table):
    path = write(table, tmp_path / "own.csv")
    with pytest.raises(DataError, match=r"--label.*shop, place.*clicked"):
        data.load(path)


def test_a_quoted_value_may_hold_anything(tmp_path):
    path = tmp_path / "own.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a,b", "clicked"])
        for n in range(200):
            writer.writerow([f'x,"{n % 2}"\ny', n % 2])
    dataset = data.load(path, label="clicked")
    assert list(dataset.vocabularies["a,b"]) == [
        None,
        'x,"0"\ny',
        'x,"1"\ny',
    ]
