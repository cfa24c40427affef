"""How files of one's own are written, and what is said of them."""

import gzip
import itertools

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from keras_pep import data
from keras_pep.data import DataError, rows

ROWS = [(n % 8, n % 6, n % 3 // 2) for n in range(300)]
HEADER = "user,item,label\n"
VALUES = {
    "user": [None, *"01234567"],
    "item": [None, *"012345"],
}


def body(between=",", end="", of=ROWS):
    return "".join(between.join(map(str, row)) + end + "\n" for row in of)


@pytest.fixture
def read(tmp_path):
    """What is read of a file, and said of it."""

    def read(content, name="clicks.csv", **settings):
        path = tmp_path / name
        if isinstance(content, str):
            content = content.encode()
        path.write_bytes(content)
        settings = {"label": "label", "min_count": 1, **settings}
        loaded = data.load(path, cache_dir=tmp_path / "cache", **settings)
        return loaded, [x.removeprefix(f"{path}: ") for x in loaded.notes]

    return read


def check(loaded, count=300):
    """Every row is there, with the ids and labels of plain CSV."""
    values = {name: list(v) for name, v in loaded.vocabularies.items()}
    assert values == VALUES
    assert loaded.malformed == 0
    found = sorted(
        (*(int(v) - 1 for v in ids), int(label))
        for split in loaded.splits.values()
        for ids, label in zip(split.ids, split.labels, strict=True)
    )
    assert found == sorted(itertools.islice(itertools.cycle(ROWS), count))


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (HEADER + body(), None),
        (HEADER + body(end=","), "delimiter that ends every row is left out"),
        ("user, item, label\n" + body(), "blanks around names and values"),
        ("user, item ,label\n" + body(", "), "blanks around names and values"),
        (HEADER + body(", "), "blanks around names and values"),
        ("\ufeff" + HEADER + body(), None),
        ("\ufeffuser, item, label\n" + body(), "blanks around names"),
        ((HEADER + body()).replace("\n", "\r\n") + "\r\n\r\n", None),
        ((HEADER + body()).replace("\n", "\r"), None),
        (
            "," + HEADER + body(of=[(n, *row) for n, row in enumerate(ROWS)]),
            "left out '', taken for row numbers",
        ),
        (
            "Unnamed: 0,user,Unnamed: 0.1,item,label\n"
            + body(of=[(n, a, n, b, c) for n, (a, b, c) in enumerate(ROWS)]),
            "left out Unnamed: 0, Unnamed: 0.1, taken for row numbers",
        ),
    ],
)
def test_rows_are_those_of_plain_csv(read, content, note):
    loaded, notes = read(content)
    check(loaded)
    if note is None:
        assert not notes
    else:
        assert len(notes) == 1
        assert note in notes[0]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("CLICKS.CSV.GZ", gzip.compress),
        ("clicks.Csv", gzip.compress),
        ("clicks.csv.gz", bytes),
        ("clicks.CSV", bytes),
    ],
)
def test_gzip_is_known_by_its_content(read, name, change):
    loaded, _ = read(change((HEADER + body()).encode()), name)
    check(loaded)


@pytest.mark.parametrize("end", ["", ","])
def test_gzip_is_read_to_its_end(read, end):
    whole = gzip.compress((HEADER + body(end=end)).encode())
    loaded, _ = read(whole + gzip.compress(body(end=end).encode()), "a.csv.gz")
    check(loaded, 600)
    with pytest.raises(DataError, match=r"a\.csv\.gz: cannot be read: .*end"):
        read(whole[:-40], "a.csv.gz")


@pytest.mark.parametrize("name", ["CLICKS.PARQUET", "clicks.csv"])
def test_parquet_is_known_by_its_content(read, tmp_path, name):
    frame = pd.DataFrame(ROWS, columns=["user", "item", "label"])
    frame.index = pd.Index(np.arange(0, 900, 3))  # which pandas stores
    frame.to_parquet(tmp_path / "frame.parquet")
    content = (tmp_path / "frame.parquet").read_bytes()
    loaded, notes = read(content, name)
    check(loaded)
    assert "left out __index_level_0__, taken for row numbers" in notes[0]
    with pytest.raises(DataError, match="found Parquet inside of gzip"):
        read(gzip.compress(content), "frame.csv.gz")


def test_row_numbers_can_be_asked_for(read):
    numbered = [(n, *row) for n, row in enumerate(ROWS)]
    loaded, notes = read(
        "Unnamed: 0,user,item,label\n" + body(of=numbered),
        fields=["Unnamed: 0", "user"],
    )
    assert loaded.fields == ("Unnamed: 0", "user")
    (note,) = notes  # row numbers are never seen again
    assert note.startswith("Unnamed: 0: of no use")
    assert note.endswith("It is kept, as --fields names it.")


_QUOTES = {  # how a file has them, and what is meant
    r'"the \"best\" one, ever"': 'the "best" one, ever',
    r'"no \"comma\" here"': 'no "comma" here',
    r'"back\\slash, \N, and \n"': r"back\slash, \N, and \n",
    r"\N": r"\N",
    r'"ends in \\"': "ends in \\",
    '"two\nlines"': "two\nlines",
}


def test_quotes_escaped_by_a_backslash(read):
    written = list(_QUOTES)
    content = "title;label\n" + "".join(
        f"{written[n % 6]};{n % 2}\n" for n in range(300)
    )
    loaded, notes = read(content, delimiter=";", fields=["title:category"])
    values = list(loaded.vocabularies["title"])[1:]
    assert values == sorted(_QUOTES.values())
    assert sum(map(len, loaded.splits.values())) == 300
    assert notes == ['quotes are taken to be written \\", as MySQL does']


def test_a_backslash_of_which_the_first_megabyte_has_none(read):
    content = "title,label\n" + "".join(
        f"an ordinary title {n % 10},{n % 2}\n" for n in range(60_000)
    )
    assert len(content) > 1 << 20
    content += '"the \\"best\\" one",1\n' * 20
    loaded, _ = read(content, fields=["title:category"])
    assert 'the "best" one' in list(loaded.vocabularies["title"])


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('"C:\\dir\\"', "C:\\dir\\"),
        ('"{""a"": ""\\""b\\""""}"', '{"a": "\\"b\\""}'),
        ('a \\"b\\"', 'a \\"b\\"'),
    ],
)
def test_a_backslash_may_be_a_backslash(read, written, value):
    content = "title,label\n" + f"{written},1\nplain,0\n" * 100
    loaded, notes = read(content, fields=["title:category"])
    assert set(loaded.vocabularies["title"]) == {None, value, "plain"}
    assert not notes


def test_quotes_of_tsv_may_be_characters(read):
    """One that opens a value would swallow the rows up to the next."""
    written = ['"Best" shoes', '5" pipe', '"never closed', "plain"]
    content = "title\tlabel\n" + "".join(
        f"{written[n % 4]}\t{n % 2}\n" for n in range(200)
    )
    loaded, notes = read(content, "own.tsv")
    assert list(loaded.vocabularies["title"]) == [None, *sorted(written)]
    assert sum(map(len, loaded.splits.values())) == 200
    assert notes == ["quotes are taken to be part of the values"]
    loaded, notes = read(content.replace("\t", "\t ", 1), "own.tsv")
    assert list(loaded.vocabularies["title"]) == [None, *sorted(written)]
    assert len(notes) == 2
    content = 'title\tlabel\n"a ""b"", c"\t1\n"d\te"\t0\n' + "f\t1\nf\t0\n" * 90
    loaded, notes = read(content, "own.tsv")
    assert set(loaded.vocabularies["title"]) == {None, 'a "b", c', "d\te", "f"}
    assert not notes


def test_blanks_of_single_values_are_part_of_them(read):
    written = [" b", "a", "c "]
    loaded, notes = read(
        "name,label\n"
        + "".join(f"{written[n % 3]},{n % 2}\n" for n in range(300))
    )
    assert list(loaded.vocabularies["name"]) == [None, *written]
    assert not notes


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (
            HEADER + body(end=",7"),
            r"line 2: found 4 columns in '0,0,0,7', expected 3, as the header "
            r"has; name each column there.*All 300 rows are malformed",
        ),
        (
            HEADER + "".join(f"{n},1,0{',' * (n % 2)}\n" for n in range(300)),
            r"line 3: found 4 columns in '1,1,0,', expected 3.*150 of 300",
        ),
        (
            "user, item, label\n" + body(", ") + "1, 2\n",
            r"line 302: found 2 columns in '1,2', expected 3",
        ),
        (
            "# of today\n" + HEADER + body(),
            "one of # of today. Is the first line a comment",
        ),
        (
            "sep=;\n" + HEADER.replace(",", ";") + body(";"),
            "one of sep=;. Is the first line a comment",
        ),
        ("user,item,Label\n" + body(), "no column 'label'.*mean 'Label'"),
        ("user,item,labels\n" + body(), "no column 'label'.*mean 'labels'"),
        (
            HEADER.replace(",", ";") + body(";"),
            "Is ',' what divides the columns.*--delimiter ';'",
        ),
        (
            HEADER.replace(",", "\t") + body("\t"),
            r"'user\\titem\\tlabel'.*--delimiter '\\t'",
        ),
        ("user,item, item,label\n" + body(), "column 'item' twice.*blanks"),
        (
            "user,Item,item,label\n" + body(of=[(1, 2, 3, 0)]),
            "the columns 'Item' and 'item', which differ in capitals",
        ),
        ("5,7,1\n" + body(), "only numbers, 5, 7, 1: is it a row"),
        (body(), "'0' twice.*only numbers, 0, 0, 0: is it a row"),
        ((HEADER + body()).encode("utf-16"), "found UTF-16, expected UTF-8"),
        ((HEADER + body()).encode("utf-16-le"), "line 1: found a NUL.*UTF-16"),
        (HEADER + body() + "a\0b,1,1\n", r"line 302: found a NUL.*a\\x00b,1,1"),
        (
            HEADER + body() + "9," * (1 << 20) + "\na\0b,1,1\n",
            r"line 303: found a NUL byte in 'a\\x00b,1,1'",
        ),
        (
            (HEADER + body() + "Köln,1,1\n").encode("latin-1"),
            r"found K\\xf6ln,1,1 in line 302, .*iconv -f LATIN1 .*clicks\.csv",
        ),
        (
            ("user, item, label\n" + body() + "Köln,1,1").encode("latin-1"),
            r"found K\\xf6ln,1,1 in line 302, expected UTF-8",
        ),
        (b"PK\x03\x04", "found a zip archive or an Excel sheet"),
        (b"\xfd7zXZ\0", "found compressed by xz"),
    ],
)
def test_what_is_wrong_is_said(read, tmp_path, content, found):
    with pytest.raises(DataError, match=f"(?s)clicks.csv.*{found}"):
        read(content)
    assert not [*tmp_path.glob("cache/*")]


@pytest.mark.parametrize("packed", ["gz", "bz2", "zst"])
def test_compressed_text_is_read(read, packed):
    def pack(text):
        codec = {"gz": "gzip", "bz2": "bz2", "zst": "zstd"}[packed]
        made = pa.BufferOutputStream()
        with pa.CompressedOutputStream(made, codec) as stream:
            stream.write(text.encode())
        return made.getvalue().to_pybytes()

    padded = body().replace(",", ", ")
    for text, name in (
        (HEADER + body(), f"clicks.csv.{packed}"),
        (HEADER + body(), "clicks.csv"),  # its content tells
        (HEADER.replace(",", ", ") + padded, f"CLICKS.CSV.{packed.upper()}"),
    ):
        found, _ = read(pack(text), name)
        check(found)
    with pytest.raises(DataError, match="line 302: found 2 columns in"):
        read(pack(HEADER + body() + "1,2\n" * 10), f"clicks.csv.{packed}")
    cut = pack(HEADER + body())[:-20]
    with pytest.raises(DataError, match="cannot be read: "):
        read(cut, f"clicks.csv.{packed}")
    with pytest.raises(DataError, match=r"found Parquet inside of .*unpack"):
        read(pack("PAR1" + "x" * 99), f"clicks.csv.{packed}")


def test_text_that_is_named_parquet(read):
    with pytest.raises(DataError, match=r"found b'user,item.*name it \.csv"):
        read(HEADER + body(), "clicks.parquet")
    with pytest.raises(DataError, match="expected a name that ends in"):
        read(b"", "clicks.parquet.gz")


def test_numbers_as_names_are_said_but_those_of_pandas(read):
    _, notes = read("5,7,1\n" + body(), label="1")
    assert "is it a row" in notes[0]
    loaded, notes = read("0,1,2\n" + body(), label="2")
    assert loaded.fields == ("0", "1")
    assert not notes


def test_columns_that_differ_in_capitals_can_be_named(read):
    content = "user,Item,item,label\n" + body(
        of=[(a, b, b, c) for a, b, c in ROWS]
    )
    loaded, _ = read(content, fields=["Item", "item"])
    assert loaded.fields == ("Item", "item")


def test_files_of_a_folder_that_are_not_read_are_named(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER + body())
    (tmp_path / "b.csv.xz").write_bytes(b"\xfd7zXZ")
    (tmp_path / "_SUCCESS").write_text("yes")
    said = []
    files = rows.files_of(tmp_path, say=said.append)
    assert [path.name for path in files.paths] == ["a.csv"]
    assert len(said) == 1
    assert "left out b.csv.xz, for the name ends in none of .csv" in said[0]


def test_thousands_of_columns(tmp_path):
    names = [f"c{n}" for n in range(3000)]
    path = tmp_path / "wide.csv"
    content = ",".join([*names, "label"]) + "\n"
    content += "".join(f"{'7,' * 3000}{n % 2}\n" for n in range(60))
    path.write_text(content)
    files = rows.files_of(path)
    assert rows.header(files) == (*names, "label")
    (block,) = rows.blocks(files, ["c2999", "label"], rows.Malformed())
    assert block.columns["c2999"].codes.tolist() == [0] * 60
    with pytest.raises(DataError, match=r"c6, c7, \.\.\.\. Did you mean 'lab"):
        data.load(path, label="labels", cache_dir=tmp_path / "cache")
