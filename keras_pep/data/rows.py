"""Rows of text files and Parquet files, a block at a time.

PyArrow parses and numbers the values of every column; what is done with them
afterwards is done once for each value of a block, not for each row.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet

from keras_pep.data.dataset import DataError

_BLOCK = 8 << 20  # bytes of text that are parsed at once
_BLOCK_ROWS = 65_536  # of Parquet
_ENDINGS = (".csv", ".tsv", ".txt", ".parquet")


@dataclass(frozen=True)
class Files:
    """Files of rows that all have the same columns.

    Attributes:
        paths: The files, in order.
        names: The columns, if no file names them in its first line.
        delimiter: Between columns.
        quoted: Whether values may be quoted, and hold delimiters and line
            ends then.
    """

    paths: tuple[Path, ...]
    names: tuple[str, ...] = ()
    delimiter: str = ","
    quoted: bool = True


@dataclass(frozen=True, eq=False)
class Column:
    """The values of a column in a block.

    Attributes:
        values: Each value of the block, a PyArrow array of text, `(n,)`; a
            missing one is `""`.
        codes: For every row its place in `values`, int `(rows,)`.
    """

    values: Any
    codes: np.ndarray


@dataclass(frozen=True, eq=False)
class Block:
    """Neighbouring rows of a file.

    Attributes:
        path: The file.
        first: Number of its rows that come before, without malformed ones.
        columns: By name.
    """

    path: Path
    first: int
    columns: dict[str, Column]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())).codes)


@dataclass
class Malformed:
    """How many rows were no rows, and what was wrong with the first.

    Attributes:
        rows: How many.
        first: Says where the first is, what was found, and what expected;
            looked up when it is asked for.
    """

    rows: int = 0
    first: Callable[[], str] | None = None

    def add(self, rows: int, what: Callable[[], str]) -> None:
        """Counts some more."""
        self.rows += rows
        self.first = self.first or what


def find(source: Path) -> tuple[Path, ...]:
    """The files of rows that a path names: itself, or those of a folder.

    Raises:
        DataError: If there are none, or of several kinds.
    """
    if source.is_file():
        if not kind_of(source):
            raise DataError(
                f"{source}: expected a name that ends in "
                f"{', '.join(_ENDINGS)}, with .gz behind if it is text."
            )
        return (source,)
    if not source.is_dir():
        raise DataError(
            f"{source}: no such file or folder, expected rows as CSV, TSV or "
            "Parquet."
        )
    folders = [path.name for path in source.iterdir() if path.is_dir()]
    if folders:
        raise DataError(
            f"{source}: found the folder {min(folders)} in it, expected files "
            "alone."
        )
    found = sorted(
        path
        for path in source.iterdir()
        if kind_of(path)
        and not path.name.startswith((".", "_"))
        and path.stat().st_size
    )
    kinds = {kind_of(path) for path in found}
    if len(kinds) != 1:
        names = ", ".join(path.name for path in found[:5]) or "none"
        raise DataError(
            f"{source}: found {names}, expected parts of one kind, CSV, TSV or "
            "Parquet."
        )
    return tuple(found)


def kind_of(path: Path) -> str:
    """The ending that says how a file is read, or `""`."""
    name = path.name.lower().removesuffix(".gz")
    return next((end for end in _ENDINGS if name.endswith(end)), "")


def header(files: Files) -> tuple[str, ...]:
    """The columns of files, which have to be the same for all.

    Raises:
        DataError: If they are not, or a column is named twice.
    """
    if files.names:
        return files.names
    columns: tuple[str, ...] = ()
    for path in files.paths:
        with _Errors(path), _open(path, files, None, Malformed()) as reader:
            found = tuple(reader.schema.names)
        twice = {name for name in found if found.count(name) > 1}
        if twice:
            raise DataError(
                f"{path}: found the column {min(twice)!r} twice, expected "
                "each once."
            )
        if columns and found != columns:
            raise DataError(
                f"{path}: found the columns {_list(found)}, expected those of "
                f"{files.paths[0].name}, {_list(columns)}."
            )
        columns = found
    return columns


def blocks(
    files: Files, columns: Sequence[str], malformed: Malformed
) -> Iterator[Block]:
    """Reads the files from beginning to end.

    Args:
        files: What to read.
        columns: Of which columns the values are wanted.
        malformed: Where rows with too few or too many columns are counted.

    Raises:
        DataError: If a file cannot be read to its end, or has no rows.
    """
    for path in files.paths:
        first = 0
        with _Errors(path), _open(path, files, columns, malformed) as reader:
            for batch in _ahead(iter(reader)):
                if batch.num_rows:
                    yield Block(
                        path,
                        first,
                        {name: _column(batch.column(name)) for name in columns},
                    )
                    first += batch.num_rows


def _ahead(batches: Iterator[Any]) -> Iterator[Any]:
    """Reads the next batch while one is worked on."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch


def _column(array: Any) -> Column:
    if not pa.types.is_dictionary(array.type):
        array = _text(array).dictionary_encode()
    values, codes = _text(array.dictionary), array.indices
    values.validate(full=True)  # is it UTF-8?
    if values.null_count:  # as a dictionary of another library may have
        values = values.fill_null("")
    if array.null_count:
        codes = codes.fill_null(len(values))
        values = pa.concat_arrays([values, pa.array([""], values.type)])
    return Column(values, codes.to_numpy(zero_copy_only=False))


def _text(array: Any) -> Any:
    """Values as text, as a file of text has them."""
    kind = array.type
    if pa.types.is_nested(kind):
        raise pa.ArrowInvalid(
            f"a column of {kind}; write lists as text divided by |"
        )
    if pa.types.is_float16(kind):  # PyArrow would write more digits
        halves = array.to_numpy(zero_copy_only=False)
        return pa.array(halves.astype(str), mask=np.isnan(halves))
    if pa.types.is_floating(kind):  # no number is no value
        array = pa.compute.if_else(pa.compute.is_nan(array), None, array)
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        utc = array.cast(pa.timestamp(kind.unit)).cast(pa.string())
        return pa.compute.binary_join_element_wise(utc, "Z", "")
    text = array.cast(pa.string())
    if pa.types.is_time(kind):  # of a day
        text = pa.compute.replace_substring_regex(text, "[.]0+$", "")
    return text


class _Errors:
    """What PyArrow has to say of a file, with the name of the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, UnicodeDecodeError):
            raise DataError(
                f"{self.path}: cannot be read: expected UTF-8."
            ) from error
        if isinstance(error, (pa.ArrowException, OSError)):
            raise DataError(f"{self.path}: cannot be read: {error}.") from error


def _open(
    path: Path,
    files: Files,
    columns: Sequence[str] | None,
    malformed: Malformed,
) -> Any:
    """A reader of record batches; of all columns if none are named."""
    if kind_of(path) == ".parquet":
        return _Parquet(path, columns)

    def wrong(row: Any) -> str:
        text = row.text
        # A quote that nothing closes makes a row of many lines.
        malformed.add(
            1 + text.count("\n"),
            lambda: (
                f"{path}{_line(path, text)}: found {row.actual_columns} "
                f"columns in {text[:60]!r}, expected {row.expected_columns}"
            ),
        )
        return "skip"

    as_text = pa.dictionary(pa.int32(), pa.string())
    stream = pa.input_stream(
        path, compression="gzip" if path.suffix == ".gz" else None
    )
    return pa.csv.open_csv(
        stream,
        read_options=pa.csv.ReadOptions(
            column_names=list(files.names) or None, block_size=_BLOCK
        ),
        parse_options=pa.csv.ParseOptions(
            delimiter=files.delimiter,
            quote_char='"' if files.quoted else False,
            newlines_in_values=files.quoted,
            invalid_row_handler=wrong,
        ),
        convert_options=pa.csv.ConvertOptions(
            include_columns=None if columns is None else list(columns),
            column_types=None
            if columns is None
            else dict.fromkeys(columns, as_text),
            strings_can_be_null=False,
            check_utf8=False,  # of every row; each value is enough
        ),
    )


class _Parquet:
    """A Parquet file, read as text files are."""

    def __init__(self, path: Path, columns: Sequence[str] | None) -> None:
        self._file = pa.parquet.ParquetFile(path)
        self._columns = columns

    def __enter__(self) -> "_Parquet":
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()

    @property
    def schema(self) -> Any:
        return self._file.schema_arrow

    def __iter__(self) -> Iterator[Any]:
        yield from self._file.iter_batches(_BLOCK_ROWS, columns=self._columns)


def _line(path: Path, text: str) -> str:
    """Where in a file a row begins."""
    if path.suffix == ".gz" or not text:
        return ""
    wanted = text.splitlines()[0].encode()
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.rstrip(b"\r\n") == wanted:
                return f", line {number}"
    return ""


def _list(names: Sequence[str]) -> str:
    """Some names, for an error."""
    shown = ", ".join(names[:8])
    return shown + (", ..." if len(names) > 8 else "")
