"""A value is the same feature, whatever wrote it."""

import datetime
import decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from keras_pep import data
from keras_pep.data.spelling import spelled

ROWS = 600


@pytest.mark.parametrize(
    ("texts", "value"),
    [
        (["107", "107.0", "107.000", " 107 ", "1.07E2", "1.07e+02"], "107"),
        (["1.5", "1.50", "1.5e+0", "15.0E-1", " 1.5"], "1.5"),
        (["0", "-0", "-0.0", "0.00", "0e+0"], "0"),
        (["0.5", ".5", "0.50", "5e-1"], "0.5"),
        (["-0.5", "-.5"], "-0.5"),
        (["0.00001", "1e-05", "1.0E-5"], "0.00001"),
        (["10000000000000000", "1e+16", "1.0E16"], "1" + "0" * 16),
        # None of these is the number beside it, as floats would have it.
        (["9007199254740993", "9007199254740993.0"], "9007199254740993"),
        (["18446744073709551615"], "18446744073709551615"),
        (["1e3"], "1e3"),  # may be a hash
        (["12345e67"], "12345e67"),
        (["007"], "007"),
        (["007.0"], "007.0"),
        (["+7"], "+7"),
        (["1.10.0"], "1.10.0"),
        (["true", "True", "TRUE"], "true"),
        (["", "nan", "NaN"], ""),
        (["NA"], "NA"),  # Namibia
        (["-"], "-"),
        (["None"], "None"),
        (["Nan"], "Nan"),
        (
            [
                "2026-11-07 09:30:00",
                "2026-11-07T09:30:00",
                "2026-11-07 09:30",
                "2026-11-07 09:30:00.000000000",
            ],
            "2026-11-07 09:30:00",
        ),
        (["2026-11-07", "2026-11-07 00:00:00.000"], "2026-11-07"),
        (
            ["2026-11-07 09:30:00 UTC", "2026-11-07T09:30:00.0+00:00"],
            "2026-11-07 09:30:00Z",
        ),
        (
            [
                "2026-11-07 00:30:00.120+0100",
                "2026-11-07 00:30:00.12+01",
                "2026-11-06T18:00:00.12-05:30",
            ],
            "2026-11-06 23:30:00.12Z",
        ),
    ],
)
def test_there_is_one_spelling(texts, value):
    assert spelled(pa.array(texts)).to_pylist() == [value] * len(texts)


def columns():
    """Columns by what writes them in different ways."""
    random = np.random.default_rng(1)
    n = random.integers(0, 6, ROWS)
    gaps = np.where(np.arange(ROWS) % 7 == 0, np.nan, n)
    days = [datetime.date(2026, 11, 1 + d) for d in n]
    return {
        "gaps": pd.Series(gaps + 107),
        "large": pd.Series(2**53 + 1 + n),
        "unsigned": pd.Series(np.uint64(2**64 - 1) - n.astype(np.uint64)),
        "tiny": pd.Series(n.astype(np.int8) - 3),
        "decimals": pd.Series([decimal.Decimal(int(d)) / 4 for d in n]),
        "half": pd.Series(n / 2 - 1).astype(np.float32),
        "quarter": pd.Series(np.where(n == 0, np.nan, n / 10)).astype(
            "float16"
        ),
        "huge": pd.Series(n * 1e20),
        "small": pd.Series(n * 1e-7),
        "bool": pd.Series(n % 2 == 0),
        "bool_gaps": pd.Series([None if d == 0 else d % 2 == 0 for d in n]),
        "date": pd.Series(days),
        "midnight": pd.Series(pd.to_datetime(days)),
        "time": pd.Series(pd.to_datetime(days) + pd.Timedelta("9h30min")),
        "zone": pd.Series(
            (pd.to_datetime(days) + pd.Timedelta("9h")).tz_localize(
                "Europe/Berlin"
            )
        ),
        "utc": pd.Series(
            (pd.to_datetime(days) + pd.Timedelta("9h")).tz_localize("UTC")
        ),
        "clock": pd.Series([datetime.time(9, d) for d in n]),
        "zeros": pd.Series([f"{d:03}" for d in n]),
        "text": pd.Series(np.array(["NA", "-", "b", "c", "", "1.0"])[n]),
        "categories": pd.Series(n).astype("category"),
    }


def write(frame, path):
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
        return path
    table = pa.Table.from_pandas(frame, preserve_index=False)
    for place, name in enumerate(table.column_names):
        column = table.column(name)
        if "large" in path.stem and pa.types.is_string(column.type):
            column = column.cast(pa.large_string())
        elif "dictionary" in path.stem and name != "label":
            column = column.combine_chunks()
            if not pa.types.is_dictionary(column.type):
                column = column.dictionary_encode()
        table = table.set_column(place, name, column)
    pq.write_table(table, path)
    return path


@pytest.mark.parametrize(
    "name", ["own.parquet", "own-large.parquet", "own-dictionary.parquet"]
)
def test_a_frame_has_the_same_ids_in_every_kind_of_file(tmp_path, name):
    frame = pd.DataFrame(columns())
    fields = [f"{column}:category" for column in frame]
    frame["label"] = np.arange(ROWS) % 2
    settings = {"label": "label", "fields": fields, "min_count": 1}
    by_csv = data.load(write(frame, tmp_path / "own.csv"), **settings)
    other = data.load(write(frame, tmp_path / name), **settings)
    for column in by_csv.fields:
        one, two = ([*d.vocabularies[column]][1:] for d in (by_csv, other))
        assert one == two, column
        several = {"bool": 2, "bool_gaps": 3, "gaps": 7}
        assert len(one) == several.get(column, 6), one
    for split, rows in by_csv.splits.items():
        np.testing.assert_array_equal(rows.ids, other.splits[split].ids)
    assert [*by_csv.vocabularies["gaps"]] == [
        *(None, ""),
        *("107", "108", "109", "110", "111", "112"),
    ]
    assert "9007199254740993" in [*by_csv.vocabularies["large"]]
    assert "1.25" in [*by_csv.vocabularies["decimals"]]


def test_no_number_in_parquet_is_missing(tmp_path):
    values = np.array([1.0, np.nan, 2.0] * 100)
    table = pa.table({"user": pa.array(values), "label": np.arange(300) % 2})
    pq.write_table(table, tmp_path / "own.parquet")
    dataset = data.load(tmp_path / "own.parquet", label="label")
    assert [*dataset.vocabularies["user"]] == [None, "", "1", "2"]


def test_spellings_that_are_one_value_are_told(tmp_path):
    rows = [
        f"{('1.1', '1.10', '2.0', 'x')[n % 4]},{n // 4 % 2}" for n in range(400)
    ]
    path = tmp_path / "own.csv"
    path.write_text("\n".join(["version,label", *rows]) + "\n")
    dataset = data.load(path, label="label")
    assert [*dataset.vocabularies["version"]] == [None, "1.1", "2", "x"]
    assert dataset.notes == (
        "version: '1.1' and '1.10' count as one value. version:text in "
        "--fields takes values as they are written.",
    )
    as_it_is = data.load(path, label="label", fields=["version:text"])
    assert [*as_it_is.vocabularies["version"]] == [
        *(None, "1.1", "1.10", "2.0", "x")
    ]
    assert as_it_is.notes == ()
