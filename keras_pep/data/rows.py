"""Rows of text files and Parquet files, a block at a time.

PyArrow parses and numbers the values of every column; what is done with them
afterwards is done once for each value of a block, not for each row.
"""

import csv
import difflib
import re
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet

from keras_pep.data.dataset import DataError
from keras_pep.data.dialect import (
    Dialect,
    Rewritten,
    dialect_of,
    find_line,
    first_bytes,
    is_parquet,
    not_utf8,
    nul_in,
    packed_by,
)

_BLOCK = 8 << 20  # bytes of text that are parsed at once
_BLOCK_ROWS = 65_536  # of Parquet
_LINES = 20  # of a value; one of more begins with a stray quote
_ENDINGS = (".csv", ".tsv", ".txt", ".parquet")
_PACKED = (".gz", ".zst", ".bz2")


@dataclass(frozen=True)
class Files:
    """Files of rows that all have the same columns.

    Attributes:
        paths: The files, in order.
        names: The columns, if no file names them in its first line.
        delimiter: Between columns.
        quoted: Whether values may be quoted, and hold delimiters and line
            ends then.
        parts: Of each file, if they are in folders such as `day=2026-11-22`,
            the columns and values that these name.
    """

    paths: tuple[Path, ...]
    names: tuple[str, ...] = ()
    delimiter: str = ","
    quoted: bool = True
    parts: tuple[tuple[tuple[str, str], ...], ...] = ()

    def part(self, file: int) -> dict[str, str]:
        """Columns and values that the folders of a file name."""
        return dict(self.parts[file]) if self.parts else {}

    def states(self) -> list[tuple[str, int, int]]:
        """Return what changes when a file changes."""
        return states(self.paths)


def states(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Return what changes when a file changes: name, size and time."""
    return [
        (str(path.resolve()), status.st_size, status.st_mtime_ns)
        for path in paths
        for status in [path.stat()]
    ]


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
        quoted: Whether its values may have been quoted.
        file: Place of the file among those that are read.
    """

    path: Path
    first: int
    columns: dict[str, Column]
    quoted: bool = False
    file: int = 0

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())).codes)

    def lines(self, name: str) -> np.ndarray:
        """Line ends in each value of a column: one too many is a stray quote.

        Returns:
            int `(n,)`; 0 for values of up to 20 lines, which may be meant.
        """
        values = self.columns[name].values
        if not self.quoted:
            return np.zeros(len(values), dtype=np.int32)
        lines = pa.compute.count_substring(values, "\n").to_numpy(False)
        return np.where(lines > _LINES, lines, 0)


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

    def check(self, rows: int, share: float) -> None:
        """Refuse files with too many malformed rows.

        Args:
            rows: How many are well-formed.
            share: The largest share of malformed ones.

        Raises:
            DataError: If there are more.
        """
        every = rows + self.rows
        if self.first and self.rows > share * every:
            raise DataError(
                f"{self.first()}. {self.rows:,} of {every:,} rows are "
                f"malformed; --max-bad-rows allows {share:.2%}."
            )


def files_of(
    source: Path,
    delimiter: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Files:
    """Find the files of rows that a path names: itself, or a folder's.

    Args:
        source: The path.
        delimiter: Between columns; by default `,`, and a tab for `.tsv` and
            `.txt`.
        say: Called with a line if files of a folder are left out.

    Raises:
        DataError: If there are none, or of several kinds, or if there cannot
            be such a delimiter.
    """
    if delimiter is not None and (
        len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n'
    ):
        raise DataError(
            f"found the delimiter {delimiter!r}, expected one ASCII character, "
            "neither a quote nor the end of a line."
        )
    paths = _find(source, say)
    by_tabs = kind_of(paths[0]) in (".tsv", ".txt")
    parts = []
    for path in paths:
        folders = path.relative_to(source).parts[:-1] if path != source else ()
        pairs = (unquote(folder).partition("=") for folder in folders)
        parts.append(
            tuple((n, "" if v == _NO_VALUE else v) for n, _, v in pairs)
        )
    by_default = "\t" if by_tabs else ","
    return Files(
        paths,
        delimiter=delimiter or by_default,
        parts=tuple(parts) if any(parts) else (),
    )


def _find(source: Path, say: Callable[[str], None]) -> tuple[Path, ...]:
    if source.is_file():
        if not kind_of(source):
            raise DataError(
                f"{source}: expected a name that ends in "
                f"{', '.join(_ENDINGS)}, with {', '.join(_PACKED)} after it if "
                "it is compressed text."
            )
        return (source,)
    if not source.is_dir():
        raise DataError(
            f"{source}: no such file or folder, expected rows as CSV, TSV or "
            "Parquet."
        )
    there = [*_files_in(source)]
    found = [path for path in there if kind_of(path)]
    kinds = {kind_of(path) for path in found}
    if len(kinds) != 1:
        names = ", ".join(path.name for path in found[:5]) or "none"
        raise DataError(
            f"{source}: found {names}, expected parts of one kind, CSV, TSV or "
            "Parquet."
        )
    if others := [path.name for path in there if not kind_of(path)]:
        say(
            f"{source}: left out {listed(others)}, for the name ends in none "
            f"of {', '.join(_ENDINGS)}"
        )
    return tuple(found)


def _files_in(folder: Path) -> Iterator[Path]:
    """List the files of a folder, and of those in it that name a value."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if path.name.startswith((".", "_")):
                continue
            if not path.name.partition("=")[1]:
                raise DataError(
                    f"{folder}: found the folder {path.name} in it, expected "
                    "files, or folders such as day=2026-11-22."
                )
            yield from _files_in(path)
        elif not path.name.startswith((".", "_")) and path.stat().st_size:
            yield path


_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def kind_of(path: Path) -> str:
    """Return the ending that says how a file is read, or `""`."""
    name = Path(path.name.lower())
    packed = name.suffix in _PACKED
    kind = (name.with_suffix("") if packed else name).suffix
    if kind not in _ENDINGS or (packed and kind == ".parquet"):
        return ""
    return kind


def header(
    files: Files, say: Callable[[str], None] = lambda _: None
) -> tuple[str, ...]:
    """Read the columns of files, which must be the same for all.

    Args:
        files: The files.
        say: Called with a line for each way in which rows are read that the
            user might not expect.

    Raises:
        DataError: If they are not, or a column is named twice.
    """
    if files.names:
        return files.names
    columns: tuple[str, ...] = ()
    said = set()
    for file, path in enumerate(files.paths):
        with _errors(path):
            dialect = _dialect(path, files)
            found = _first_row(path, files, dialect)
        found += tuple(n for n in files.part(file) if n not in found)
        for note in dialect.notes():
            if note not in said:
                said.add(note)
                say(f"{path}: {note}")
        twice = [n for n, times in Counter(found).items() if times > 1 and n]
        if twice:
            blanks = "; blanks around names do not count" * dialect.padded
            raise DataError(
                f"{path}: found the column {min(twice)!r} twice, expected "
                f"each once{blanks}.{_no_header(found)}"
            )
        if columns and found != columns:
            raise DataError(
                f"{path}: found the columns {listed(found)}, expected those of "
                f"{files.paths[0]}, {listed(columns)}."
                f"{_no_header(found)}"
            )
        columns = found
    if files.quoted and _no_header(columns):
        say(f"{files.paths[0]}:{_no_header(columns)}")
    return columns


def _first_row(path: Path, files: Files, dialect: Dialect) -> tuple[str, ...]:
    with _open(path, files, None, Malformed(), dialect) as (schema, _):
        return tuple(schema.names)


def without_header(
    files: Files, form: Files, columns: Sequence[str]
) -> Files | None:
    """Name the columns of files that have no header.

    Args:
        files: The files.
        form: How they may be written: the columns, of which the first, the
            label, may be missing, and what divides them.
        columns: What a header would name.

    Returns:
        The files in that form; None if they have a header.

    Raises:
        DataError: If they have neither.
    """
    form = replace(form, paths=files.paths)
    path = form.paths[0]
    with _errors(path):
        first = _first_row(path, replace(form, names=()), Dialect())
    if {*columns} <= {*first}:
        return None
    for names in (form.names, form.names[1:]):
        if len(first) == len(names):
            return replace(form, names=names)
    raise DataError(
        f"{path}, line 1: found {len(first)} columns divided by "
        f"{form.delimiter!r}, expected a header, or {len(form.names)} columns, "
        f"or {len(form.names) - 1} without the label."
    )


def unnamed(column: str) -> bool:
    """Tell whether a column is an index such as pandas adds."""
    return not column.strip() or bool(_UNNAMED.fullmatch(column))


def no_column(
    files: Files, names: Sequence[str], columns: Sequence[str]
) -> DataError:
    """Make the error of columns that files do not have.

    Args:
        files: The files.
        names: The missing columns.
        columns: Those that there are.
    """
    hint = _no_header(columns)
    if columns[0].startswith(("#", "sep=")):
        hint += " Is the first line a comment? It has to name the columns."
    alike = {name.strip().casefold(): name for name in columns}
    for name in names if len(columns) > 1 else ():
        close = alike.get(name.strip().casefold()) or next(
            iter(difflib.get_close_matches(name, columns, 1, 0.8)), None
        )
        if close is not None:
            hint += f" Did you mean {close!r}?"
            break
    if len(columns) == 1 and kind_of(files.paths[0]) != ".parquet":
        others = Counter(c for c in columns[0] if c in ",;\t|")
        other = next((c for c, _ in others.most_common(1)), None)
        hint += f" Is {files.delimiter!r} what divides the columns?" + (
            " --delimiter names another."
            if other is None
            else f" {other!r} seems to: --delimiter {other!r} (in Python: "
            f"delimiter={other!r})."
        )
    missing = ", ".join(map(repr, names))
    return DataError(
        f"{files.paths[0]}: found no column {missing}, expected one of "
        f"{listed(columns)}.{hint}"
    )


def no_rows(files: Files, malformed: Malformed) -> DataError:
    """Make the error of files without a single well-formed row."""
    if malformed.first:
        return DataError(
            f"{malformed.first()}. All {malformed.rows:,} rows are malformed."
        )
    has = "is empty" if files.names else "has a header but no rows"
    return DataError(f"{files.paths[0]}: {has}, expected some.")


_UNNAMED = re.compile(r"Unnamed: \d+([._]\w+)?|__index_level_\d+__")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")


def _no_header(columns: Sequence[str]) -> str:
    """Ask about the first line if it looks like a row of values."""
    named = [name for name in columns if not unnamed(name)]
    numbered = [str(number) for number in range(len(named) + 1)]
    if (
        not named
        or named in (numbered[:-1], numbered[1:])  # as pandas does
        or not all(map(_NUMBER.fullmatch, named))
    ):
        return ""
    return (
        f" The first line has only numbers, {listed(columns)}: is it a row? It "
        "has to name the columns."
    )


def blocks(
    files: Files,
    columns: Sequence[str],
    malformed: Malformed,
    only: int | None = None,
) -> Iterator[Block]:
    """Reads the files from beginning to end.

    Args:
        files: What to read.
        columns: Of which columns the values are wanted.
        malformed: Where rows with too few or too many columns are counted.
        only: Place of the one file to read; by default all are read.

    Raises:
        DataError: If a file cannot be read to its end.
    """
    for file, path in enumerate(files.paths):
        if only not in (None, file):
            continue
        first = 0
        part, names = files.part(file), columns
        if part:
            with _errors(path):
                in_file = _first_row(path, files, _dialect(path, files))
            part = {n: v for n, v in part.items() if n not in in_file}
            # One at least, which tells how many rows there are.
            names = [n for n in columns if n not in part] or in_file[:1]
        with (
            _errors(path),
            _open(path, files, names, malformed) as (_, reader),
            closing(_ahead(iter(reader))) as batches,
        ):
            quoted = files.quoted and not is_parquet(path)
            for batch in batches:
                found = {n: _column(batch.column(n), path) for n in names}
                for name, value in part.items():
                    codes = np.zeros(batch.num_rows, dtype=np.int32)
                    found[name] = Column(pa.array([value]), codes)
                if batch.num_rows:
                    yield Block(path, first, found, quoted, file)
                    first += batch.num_rows


def _ahead(batches: Iterator[Any]) -> Generator[Any]:
    """Reads the next batch while one is worked on."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch


def _column(array: Any, path: Path) -> Column:
    text = pa.types.is_dictionary(array.type)
    if not text:
        array = _text(array).dictionary_encode()
    values, codes = _text(array.dictionary), array.indices
    values.validate(full=True)  # is it UTF-8?
    if text and _has_nul(values):
        raise nul_in(path)
    if values.null_count:  # as a dictionary of another library may have
        values = values.fill_null("")
    if array.null_count:
        codes = codes.fill_null(len(values))
        values = pa.concat_arrays([values, pa.array([""], values.type)])
    return Column(values, codes.to_numpy(zero_copy_only=False))


def _has_nul(values: Any) -> bool:
    content = values.buffers()[2]
    return content is not None and b"\0" in content.to_pybytes()


def _text(array: Any) -> Any:
    """Convert values to text, as a file of text has them."""
    kind = array.type
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


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Name the file in PyArrow's errors."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error
    except _UNREADABLE as error:
        text = not is_parquet(path)
        if text and isinstance(error, pa.ArrowInvalid) and "UTF8" in str(error):
            raise not_utf8(path) from error
        raise DataError(f"{path}: cannot be read: {error}.") from error


_UNREADABLE = (pa.ArrowException, OSError, EOFError, zlib.error, csv.Error)


def _dialect(path: Path, files: Files) -> Dialect:
    if not path.stat().st_size:
        raise DataError(f"{path}: is empty, expected a header and rows.")
    if is_parquet(path) or not files.quoted:
        return Dialect()
    if kind_of(path) == ".parquet":
        raise DataError(
            f"{path}: cannot be read: found {first_bytes(path)!r} where it "
            "begins, expected Parquet. If it is text, name it .csv or .tsv."
        )
    return dialect_of(path, files.delimiter)


@contextmanager
def _open(
    path: Path,
    files: Files,
    columns: Sequence[str] | None,
    malformed: Malformed,
    dialect: Dialect | None = None,
) -> Iterator[tuple[Any, Any]]:
    """Open the schema and the batches of a file; of all columns if none."""
    if is_parquet(path):
        with pa.parquet.ParquetFile(path) as file:
            for each in file.schema_arrow:
                if each.name in (columns or ()) and pa.types.is_nested(
                    each.type
                ):
                    raise pa.ArrowInvalid(
                        f"column {each.name!r} holds {each.type}; write lists "
                        "as text divided by |, or name other columns in "
                        "--fields"
                    )
            batches = file.iter_batches(_BLOCK_ROWS, columns=columns)
            yield file.schema_arrow, batches
        return
    dialect = dialect or _dialect(path, files)

    def wrong(row: Any) -> str:
        text = row.text
        # A quote that nothing closes makes a row of many lines.
        malformed.add(
            1 + text.count("\n"),
            lambda: (
                f"{path}{_line(path, files, dialect, text)}: found "
                f"{row.actual_columns} columns in {text[:60]!r}, expected "
                f"{row.expected_columns}, as "
                + ("rows have" if files.names else "the header has")
                + _remedy(row, files)
            ),
        )
        return "skip"

    as_text = pa.dictionary(pa.int32(), pa.string())
    quoted = files.quoted and (dialect.rewritten or not dialect.unquoted)
    with ExitStack() as stack:
        if dialect.rewritten:
            rewritten = closing(Rewritten(path, files.delimiter, dialect))
            stream = pa.PythonFile(stack.enter_context(rewritten), mode="r")
        else:
            stream = pa.input_stream(path, compression=packed_by(path))
        reader = pa.csv.open_csv(
            stream,
            read_options=pa.csv.ReadOptions(
                column_names=list(files.names) or None, block_size=_BLOCK
            ),
            parse_options=pa.csv.ParseOptions(
                delimiter=files.delimiter,
                quote_char='"' if quoted else False,
                newlines_in_values=quoted,
                invalid_row_handler=wrong,
            ),
            convert_options=pa.csv.ConvertOptions(
                include_columns=columns and list(columns),
                column_types=columns and dict.fromkeys(columns, as_text),
                strings_can_be_null=False,
                check_utf8=False,  # of every row; each value is enough
            ),
        )
        with reader:
            yield reader.schema, reader


def _line(path: Path, files: Files, dialect: Dialect, text: str) -> str:
    """Say in which line of a file a row is."""
    if dialect.rewritten:
        with closing(Rewritten(path, files.delimiter, dialect)) as rewritten:
            number = rewritten.line(text)
    else:
        wanted = text.encode().split(b"\n")[0].rstrip(b"\r")
        number, _ = find_line(path, lambda line: line.rstrip(b"\r\n") == wanted)
    return f", line {number}" if number else ""


def _remedy(row: Any, files: Files) -> str:
    """Advise how to mend a row that has too few or too many columns."""
    if '\\"' in row.text and files.quoted:
        return '; within quotes a quote is written "", not \\"'
    if row.text.startswith("#"):
        return "; comments are not read"
    if row.actual_columns > row.expected_columns and files.quoted:
        return (
            "; name each column there, and quote values that hold "
            f"{files.delimiter!r}"
        )
    return ""


def listed(names: Sequence[str]) -> str:
    """List some names for an error, quoted if they are not plain to see."""
    shown = ", ".join(
        name
        if name.strip() == name and name.isprintable() and name
        else repr(name)
        for name in names[:8]
    )
    return shown + (", ..." if len(names) > 8 else "")
