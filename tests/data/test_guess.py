"""How columns are taken, and what is said of it."""

import numpy as np
import pandas as pd
import pytest

from keras_pep import data
from keras_pep.data import DataError
from keras_pep.data.guess import guess


def found(raw, name="column"):
    made = guess(name, [str(value) for value in raw], lambda _: " (row 7)")
    kinds = {field.kind for field in made.fields}
    formats = {field.time_format for field in made.fields}
    assert len(formats) == 1
    kind = "time" if kinds == {"hour", "weekday"} else "".join(kinds)
    return kind, formats.pop(), made.note


RANDOM = np.random.default_rng(0)
SECONDS = RANDOM.integers(1_506_826_800, 1_510_603_400, 200)


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
@pytest.mark.parametrize(
    "name", ["x", "clicked_at", "eventTime", "session_start"]
)
def test_seconds_since_1970_are_times(unit, name):
    kind, _, note = found(SECONDS * unit, name)
    assert kind == "time"
    assert "since 1970 (2017-10-01 to 2017-11-13)" in note
    assert f"{name}:category in --fields takes" in note


@pytest.mark.parametrize("form", ["{:.1f}", "{:.3f}"])
def test_seconds_of_floats_are_times(form):
    kind, _, note = found([form.format(s + 0.25) for s in SECONDS])
    assert kind == "time"
    assert "seconds since 1970" in note


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (SECONDS * 1000, "session_id"),
        (SECONDS, "userId"),
        (SECONDS, "products"),
        (SECONDS, "sku"),
        (1_000_000_000 + RANDOM.integers(1, 10**6, 200), "x"),
        (1_500_000_000 + np.arange(200), "x"),
        (RANDOM.integers(10**9, 2 * 10**9, 200), "x"),
        # Ids of tweets, which are between 10**18 and 2 * 10**18.
        (RANDOM.integers(15 * 10**17, 16 * 10**17, 200), "tweet"),
    ],
)
def test_ids_that_might_be_times_are_ids_and_it_is_told(raw, name):
    kind, _, note = found(raw, name)
    assert kind == "category"
    assert "could be" in note
    assert f"{name}:time in --fields reads times" in note


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (np.arange(1000), "category"),
        (SECONDS[:5], "category"),
        (SECONDS / 1e9, "number"),
        (SECONDS * 100, "category"),
    ],
)
def test_other_numbers_are_taken_silently(raw, kind):
    assert found(raw) == (kind, "", "")


def test_a_number_that_stands_for_no_time_is_told():
    kind, _, note = found(np.append(SECONDS * 1000, 0), "last_login")
    assert kind == "category"
    assert "because of '0' (row 7), though its other numbers could be m" in note
    assert "(2017-10-01 to 2017-11-13). last_login:time in --fields" in note


STAMPS = pd.date_range("2026-03-01", periods=300, freq="977min")


@pytest.mark.parametrize(
    "time_format",
    ["%Y%m%d", "%Y%m%d%H", "%Y%m%d%H%M", "%Y%m%d%H%M%S", "%y%m%d%H%M"],
)
def test_times_of_digits_alone_are_told(tmp_path, time_format):
    """They could be ids, or be read as seconds since 1970."""
    times = STAMPS.strftime(time_format)
    kind, _, note = found(times, "when")
    assert kind == "category"
    option = f"when:time({time_format})"
    assert f"could be times, such as '{times[0]}'. {option} in" in note
    path = write(tmp_path / "own.csv", when=times)
    settings = {"label": "label", "min_count": 1}
    made = data.load(path, fields=[option], **settings)
    training = np.random.default_rng(0).random(300) < 0.8
    days = [
        made.vocabularies[made.fields[-1]][n] for n in made.train.ids[:, -1]
    ]
    assert days == [str(time.day_of_week) for time in STAMPS[training]]
    if time_format == "%Y%m%d":  # is of ISO 8601 as well
        other = data.load(path, fields=["when:weekday"], **settings)
        np.testing.assert_array_equal(other.train.ids, made.train.ids[:, -1:])
    else:
        with pytest.raises(DataError, match=rf"found '{times[0]}' in column"):
            data.load(path, fields=["when:time"], **settings)


def test_numbers_that_are_read_as_times_of_long_ago_are_told(tmp_path):
    path = write(tmp_path / "own.csv", when=10**8 + np.arange(400))
    made = data.load(path, label="label", fields=["when:time"])
    assert made.notes[0] == (
        "when: numbers are read as times since 1970, 1973-03-03 to 1973-03-03. "
        "when:category in --fields takes them as categories."
    )
    path = write(tmp_path / "now.csv", when=SECONDS)
    assert data.load(path, label="label", fields=["when:time"]).notes == ()


@pytest.mark.parametrize(
    ("raw", "kind", "time_format"),
    [
        (["11/7/2026 9:30", "11/17/2026 9:30"], "time", "%m/%d/%Y %H:%M"),
        (["7/11/2026 9:30", "17/11/2026 9:30"], "time", "%d/%m/%Y %H:%M"),
        (["7.11.26 9:30:05", "17.11.26 9:30:00"], "time", "%d.%m.%y %H:%M:%S"),
        (["11-7-2026", "11-17-2026"], "weekday", "%m-%d-%Y"),
        (
            ["11/7/2026 9:30 AM", "11/17/2026 12:30 PM"],
            "time",
            "%m/%d/%Y %I:%M %p",
        ),
        (["2026-11-07 9:30 PM"], "time", "%Y-%m-%d %I:%M %p"),
        (["9:30", "13:05"], "hour", "%H:%M"),
        (["09:30:00.000000"], "hour", "%H:%M:%S.%f"),
        (["7 Nov 2026", "8 May 2026"], "weekday", "%d %b %Y"),
        (["7 November 2026", "8 May 2026"], "weekday", "%d %B %Y"),
        (["Nov 7, 2026 9:30"], "time", "%b %d, %Y %H:%M"),
        (["07/Nov/2026:09:30:00 +0000"], "time", "%d/%b/%Y:%H:%M:%S %z"),
    ],
)
def test_formats_are_found_and_told(raw, kind, time_format):
    made = found(raw)
    assert made[:2] == (kind, time_format)
    assert f"taken as times by the format {time_format}, such as" in made[2]


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (
            ["11/7/2026 9:30", "1/2/2026 9:30"],
            "column:time(%m/%d/%Y %H:%M) or column:time(%d/%m/%Y %H:%M).",
        ),
        (["7.11.2026"], "column:time(%m.%d.%Y) or column:time(%d.%m.%Y)."),
        (["Sat Nov 7 09:30:00 2026"], "such as 'Sat Nov 7 09:30:00 2026'"),
        (["2026-11-07 09:30:00 CET"], "(row 7) look like times"),
        (["13/7/2026", "7/13/2026"], "look like times"),
        (["1,234", "5", "12,000"], "(row 7) look like numbers"),
        (["$5.00", "$6.50"], "look like numbers"),
        (["3,14", "2,71"], "a point before decimals"),
        ([*np.arange(9) / 2, "XL"], "because of 'XL' (row 7), which is no n"),
        ([*np.arange(9) / 2, "N/A", "?", "unknown"], "because of 'unknown'"),
        ([*np.arange(9) / 2, "X" * 999], f"because of {'X' * 80!r} (row 7)"),
        ([*SECONDS, "never"], "because of 'never' (row 7), which is no time."),
        (["never", *["13/7/2026", "7/13/2026"] * 9], "such as '13/7/2026' (r"),
        (["1\u202f234,50", "5,00\u00a0\u20ac"], "look like numbers"),
        (["1\u2019234.50"], "look like numbers"),
        (["['a', 'b']", '["a"]', "[1, 2]", "[]"], "look like lists"),
        (["2026-11-07"] * 9 + ["soon"], "because of 'soon' (row 7), which is"),
    ],
)
def test_categories_for_want_of_better_are_told(raw, told):
    kind, _, note = found(raw)
    assert kind == "category"
    assert note.startswith("column: taken as categories")
    assert told in note


@pytest.mark.parametrize(
    "raw",
    [
        ["a", "b"],
        ["NA", "DE", "-"],
        ["a1", "b2"],
        ["10.0.0.1", "192.168.0.100"],
        ["M", "F"],
        # Ids are categories, whether one of them is text or not.
        [*range(30), "guest"],
        ["[18-25]", "[26-40]"],
    ],
)
def test_text_is_taken_silently(raw):
    assert found(raw) == ("category", "", "")


def write(path, **columns):
    table = pd.DataFrame(columns)
    rows = len(table)
    table.assign(label=np.arange(rows) // 3 % 2).to_csv(path, index=False)
    return path


@pytest.fixture
def log(tmp_path):
    """A click log: 2,000 rows, times in three ways, a mark for no price."""
    random = np.random.default_rng(3)
    seconds = random.integers(1_793_000_000, 1_795_000_000, 2000)
    stamps = pd.to_datetime(seconds, unit="s")
    price = [
        "N/A" if n % 50 == 7 else f"{p:.2f}"
        for n, p in enumerate(random.random(2000))
    ]
    return write(
        tmp_path / "log.csv",
        item=random.integers(0, 20, 2000),
        clicked_at=seconds * 1000,
        us=[
            f"{t.month}/{t.day}/{t.year} {t.hour}:{t.minute:02}" for t in stamps
        ],
        iso=[f"{t.date()} {t.hour}:{t.minute:02}" for t in stamps],
        price=price,
        version="2.0",
        session=random.permutation(2000),
    )


def test_a_log_is_taken_as_a_person_would(log):
    dataset = data.load(log, label="label")
    assert dataset.fields == (
        *("item", "clicked_at_hour", "clicked_at_weekday"),
        *("us_hour", "us_weekday", "iso_hour", "iso_weekday", "price"),
    )
    for split in dataset.splits.values():
        ids = dict(zip(dataset.fields, split.ids.T, strict=True))
        for part in ("hour", "weekday"):
            one, two, three = (
                [
                    dataset.vocabularies[f"{name}_{part}"][n]
                    for n in ids[f"{name}_{part}"]
                ]
                for name in ("clicked_at", "us", "iso")
            )
            assert one == two == three
    table = pd.read_csv(log)
    hours = pd.to_datetime(table["clicked_at"], unit="ms").dt.hour
    first = dataset.vocabularies["us_hour"][dataset.train.ids[0, 3]]
    assert first == str(hours[0])  # the first row is one of training
    starts = [note.split(".")[0] for note in dataset.notes]
    assert starts[2:] == [
        "price: 'N/A' is taken as missing, in 40 rows",
        "version: of no use, every training row has the same value '2'",
        "session: of no use, no value occurs in 10 training rows or more",
    ]
    assert "milliseconds since 1970" in starts[0]
    assert "us: taken as times by the format %m/%d/%Y %H:%M" in starts[1]
    assert "" in [*dataset.vocabularies["price"]]


def test_named_columns_are_kept_whatever_they_are(log):
    fields = ["item", "version", "session", "clicked_at:category"]
    dataset = data.load(log, label="label", fields=fields)
    assert dataset.fields == ("item", "version", "session", "clicked_at")
    assert dataset.field_sizes == (21, 2, 1, 1)
    assert [note.split(":")[0] for note in dataset.notes] == [
        *("version", "session", "clicked_at")
    ]
    assert all(
        note.endswith("It is kept, as --fields names it.")
        for note in dataset.notes
    )


def test_values_of_validation_that_training_has_not_seen(tmp_path):
    """Half of training has one value; nearly all else has its own."""
    ends = np.random.default_rng(0).random(3000)
    own = np.arange(3000)
    path = write(
        tmp_path / "own.csv",
        item=own % 7,
        session=np.where((ends < 0.8) & (own % 2 == 0), "none", own),
    )
    dataset = data.load(path, label="label", min_count=2)
    assert dataset.fields == ("item",)
    assert dataset.notes == (
        "session: of no use, 100.0% of its values in validation do not occur "
        "in 2 training rows or more. It is left out; "
        "session:category in --fields keeps it, and session:number bins its "
        "numbers.",
    )
    assert dataset.train.ids.shape[1] == 1
    assert dataset.unknown["test"].shape == (1,)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.arange(600) * 37, ", and own:number bins its numbers."),
        ([f"s{n}" for n in range(600)], "."),
        (["7"] * 600, "."),
    ],
)
def test_numbers_of_no_use_may_be_binned(tmp_path, values, told):
    path = write(tmp_path / "own.csv", item=np.arange(600) % 7, own=values)
    (note,) = data.load(path, label="label").notes
    assert note.endswith(f"left out; own:category in --fields keeps it{told}")


def test_where_no_column_is_of_use_all_are_kept(tmp_path):
    path = write(tmp_path / "own.csv", a=["x"] * 300, b=np.arange(300))
    dataset = data.load(path, label="label")
    assert dataset.fields == ("a", "b")
    assert [note[-12:] for note in dataset.notes] == [" It is kept."] * 2


def test_a_format_can_be_given(tmp_path):
    times = [f"{n % 12 + 1}/{n % 9 + 1}/2026 {n % 24}:05" for n in range(480)]
    path = write(tmp_path / "own.csv", when=times)
    dataset = data.load(
        path, label="label", fields=["when:time(%m/%d/%Y %H:%M)"], min_count=1
    )
    assert dataset.fields == ("when_hour", "when_weekday")
    hours, days = (
        [v[n] for n in dataset.train.ids[:, place]]
        for place, v in enumerate(dataset.vocabularies.values())
    )
    training = np.random.default_rng(0).random(480) < 0.8
    stamps = pd.to_datetime(pd.Series(times), format="%m/%d/%Y %H:%M")[training]
    assert hours == stamps.dt.hour.astype(str).to_list()
    assert days == stamps.dt.day_of_week.astype(str).to_list()
    only = data.load(path, label="label", fields=["when:hour(%d/%m/%Y %H:%M)"])
    assert only.fields == ("when",)


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("when:time(%m/%d/%Q)", "found %Q in the time format '%m/%d/%Q', exp"),
        ("when:time()", "found % in the time format '%'"),
        ("when:time(day)", "expected parts of a time"),
        ("when:time(%m/%m)", "expected parts of a time"),
        ("when:number(%m)", "found the kind 'number(%m)'"),
        (
            "when:time(%Y-%m-%d)",
            "'1/1/2026 0:05' in column 'when', expected a "
            "time as %Y-%m-%d has it",
        ),
        ("when:time", r"expected a time: 2026-11-22, .*when:time\(%m/%d/%Y"),
    ],
)
def test_what_cannot_be_read_says_how_it_could(tmp_path, field, told):
    times = [f"{n % 12 + 1}/{n % 9 + 1}/2026 {n % 24}:05" for n in range(480)]
    path = write(tmp_path / "own.csv", when=times)
    told = told if "*" in told else told.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(DataError, match=told):
        data.load(path, label="label", fields=[field])


@pytest.mark.parametrize(
    "mark", ["N/A", "-", "?", "#N/A", "n/a", "null", "None"]
)
def test_marks_for_no_number(tmp_path, mark):
    price = [mark if n % 25 == 7 else str(n / 2) for n in range(600)]
    path = write(tmp_path / "own.csv", price=price)
    settings = {"label": "label", "min_count": 1}
    blank = [("" if p == mark else p) for p in price]
    expected = data.load(write(tmp_path / "blank.csv", price=blank), **settings)
    for fields in ([], ["price:number"]):
        dataset = data.load(path, fields=fields, **settings)
        assert dataset.vocabularies["price"].field.kind == "number"
        assert dataset.malformed == 0
        for split, rows in expected.splits.items():
            np.testing.assert_array_equal(dataset.splits[split].ids, rows.ids)
        assert dataset.notes == (
            f"price: {mark!r} is taken as missing, in 24 rows.",
        )
    assert expected.notes == ()


def test_marks_are_values_of_categories(tmp_path):
    country = np.array(["NA", "DE", "-", "None", ""])[np.arange(500) % 5]
    path = write(tmp_path / "own.csv", country=country)
    dataset = data.load(path, label="label")
    assert [*dataset.vocabularies["country"]] == [
        *(None, "", "-", "DE", "NA", "None")
    ]
    assert dataset.notes == ()


def test_zero_dates_of_databases_are_missing(tmp_path):
    times = [str(time) for time in STAMPS]
    times[::10] = ["0000-00-00 00:00:00"] * 30
    path = write(tmp_path / "own.csv", when=times)
    dataset = data.load(path, label="label", min_count=1)
    assert dataset.fields == ("when_hour", "when_weekday")
    assert dataset.malformed == 0
    assert dataset.notes == (
        "when: '0000-00-00 00:00:00' is taken as missing, in 30 rows.",
    )
    first = dataset.vocabularies["when_hour"][dataset.train.ids[0, 0]]
    assert first == ""  # the first row is one of training
