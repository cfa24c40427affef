"""How a text file is written: compressed or not, and how it divides rows.

PyArrow reads standard CSV. A file that is written otherwise is rewritten, row
by row, on its way there.
"""

import csv
import functools
import gzip
import io
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from keras_pep.data.dataset import DataError

_SAMPLE = 1 << 20  # bytes in which a backslash before a quote is looked for
_LOOKED_AT = 100  # rows
_REWRITTEN = 1000  # rows that are rewritten at once

# How a file that begins so is compressed, and what unpacks it.
_PACKED = {
    b"\x1f\x8b": ("gzip", "gunzip -c"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd -dc"),
    b"BZh": ("bz2", "bunzip2 -c"),
}
PARQUET = b"PAR1"
_ARCHIVES = {
    b"PK\x03\x04": "a zip archive or an Excel sheet",
    b"\xfd7zXZ": "compressed by xz",
}


@dataclass(frozen=True)
class Dialect:
    r"""Differences of a text file from standard CSV.

    Attributes:
        padded: There are blanks around values that are not part of them.
        escaped: A quote within quotes is written `\"`, not `""`.
        trailing: Rows end in a delimiter that the header has not.
        unquoted: Quotes are characters like others, as TSV may have them.
    """

    padded: bool = False
    escaped: bool = False
    trailing: bool = False
    unquoted: bool = False

    @property
    def rewritten(self) -> bool:
        """Whether PyArrow does not read it as it is."""
        return self.padded or self.escaped or self.trailing

    def notes(self) -> list[str]:
        """List how the rows are read, for the user."""
        said = {
            "blanks around names and values are left out": self.padded,
            'quotes are taken to be written \\", as MySQL does': self.escaped,
            "the delimiter that ends every row is left out": self.trailing,
            "quotes are taken to be part of the values": self.unquoted,
        }
        return [note for note, so in said.items() if so]


def packed_by(path: Path) -> str | None:
    """Tell how a file is compressed, whatever its name; None if it is not."""
    return _packed(path)[0]


def _packed(path: Path) -> tuple[str | None, str]:
    start = first_bytes(path)
    found = (
        known for magic, known in _PACKED.items() if start.startswith(magic)
    )
    return next(found, (None, ""))


def is_parquet(path: Path) -> bool:
    """Tell whether a file is Parquet, whatever its name."""
    return first_bytes(path).startswith(PARQUET)


def first_bytes(path: Path) -> bytes:
    """Read the first 20 bytes of a file."""
    with path.open("rb") as file:
        return file.read(20)


def open_text(path: Path) -> io.BufferedReader | gzip.GzipFile:
    """Open a text file for its bytes, unpacked."""
    packed = packed_by(path)
    if packed == "gzip":
        return gzip.GzipFile(path)
    if packed is None:
        return path.open("rb")
    return io.BufferedReader(pa.input_stream(str(path), compression=packed))


def find_line(path: Path, wrong: Any) -> tuple[int, bytes]:
    """Find the number and bytes of the first wrong line; 0 if none is."""
    with open_text(path) as lines:
        for number, line in enumerate(lines, 1):
            if wrong(line):
                return number, line.rstrip(b"\r\n")
    return 0, b""


def dialect_of(path: Path, delimiter: str) -> Dialect:
    """Look at the first rows of a text file, and for a backslash at all.

    Raises:
        DataError: If it is no text in UTF-8 at all.
    """
    state = path.stat()
    return _dialect_of(path, delimiter, (state.st_size, state.st_mtime_ns))


@functools.lru_cache(maxsize=4096)
def _dialect_of(path: Path, delimiter: str, _: tuple[int, int]) -> Dialect:
    with open_text(path) as file:
        sample = file.read(_SAMPLE)
        _refuse_other_content(path, sample)
        odd = _around_backslash(file, sample)
    odd = b"".join(sample.splitlines(keepends=True)[:1]) + odd
    dialect = Dialect(escaped=True)
    if _malformed(odd, delimiter, dialect) >= _malformed(odd, delimiter):
        unquoted = delimiter == "\t" and _is_unquoted(sample)
        dialect = Dialect(unquoted=unquoted)
    reader = _parsed(_lines(sample), delimiter, dialect)
    every = list(itertools.islice(_rows_or_none(reader), _LOOKED_AT))
    first, *found = [row for row in every if row] or [[]]
    behind = [value for row in found for value in row[1:] if value]
    return replace(
        dialect,
        padded=delimiter != " "
        and (
            any(name != name.strip(" ") for name in first)
            or (bool(behind) and all(value[0] == " " for value in behind))
        ),
        trailing=bool(found)
        and all(_ends_empty(row, len(first)) for row in found),
    )


def _is_unquoted(sample: bytes) -> bool:
    """Tell whether rows of TSV are whole only if quotes are no quotes."""
    wrapped = re.compile(rb'(^|\t)"[^\t\r\n]*"(\t|\r|\n|$)', re.M)
    return bool(
        b'"' in sample
        and _malformed(sample, "\t")
        and not wrapped.search(sample)
        and not _malformed(sample, "\t", Dialect(unquoted=True))
    )


def _around_backslash(file: Any, sample: bytes) -> bytes:
    r"""Lines from the first `\"` on, if there is any."""
    before = b""
    while sample:
        text = before + sample
        place = text.find(b'\\"')
        if place >= 0:
            start = text.rfind(b"\n", 0, place) + 1
            return text[start:] + bytes(file.read(_SAMPLE))
        before = text[text.rfind(b"\n") + 1 :][-_SAMPLE:]
        sample = file.read(_SAMPLE)
    return b""


def _lines(content: bytes) -> io.StringIO:
    """Lines of text, without a last one that is cut."""
    if len(content) >= _SAMPLE:
        content = content[: content.rfind(b"\n") + 1] or content
    text = content.decode("utf-8-sig", errors="replace")
    return io.StringIO(text, newline="")


def _refuse_other_content(path: Path, sample: bytes) -> None:
    for magic, what in _ARCHIVES.items():
        if sample.startswith(magic):
            raise DataError(
                f"{path}: found {what}, expected text or Parquet: unpack or "
                "export it first; of compressed text, gzip, zstd and bzip2 are "
                "read."
            )
    if sample.startswith(PARQUET):
        raise DataError(
            f"{path}: found Parquet inside of {packed_by(path)}, expected "
            f"Parquet as it is: unpack it with {_packed(path)[1].split()[0]}."
        )
    if sample.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(
            f"{path}: found UTF-16, expected UTF-8: {_convert(path, 'UTF-16')}"
        )
    if b"\0" in sample:
        raise nul_in(path)


def nul_in(path: Path) -> DataError:
    """Make the error of a text file that has NUL bytes."""
    number, line = find_line(path, lambda line: b"\0" in line)
    return DataError(
        f"{path}, line {number}: found a NUL byte in "
        f"{line[:60].decode(errors='backslashreplace')!r}, expected text in "
        "UTF-8. Is it UTF-16, or was it not written to its end?"
    )


def not_utf8(path: Path) -> DataError:
    """Make the error of a text file that is not in UTF-8."""
    found = ""
    with open_text(path) as lines:
        for number, line in enumerate(lines, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                shown = line[max(0, error.start - 20) : error.start + 20]
                text = shown.strip().decode(errors="backslashreplace")
                found = f"found {text} in line {number}, "
                break
    return DataError(
        f"{path}: cannot be read: {found}expected UTF-8. If it is Latin-1, "
        f"{_convert(path, 'LATIN1')}"
    )


def _convert(path: Path, encoding: str) -> str:
    _, unpack = _packed(path)
    unpacked = f"{unpack} {path.name} | " if unpack else ""
    return (
        f"convert it, as by {unpacked}iconv -f {encoding} -t UTF-8 "
        f"{'' if unpacked else path.name + ' '}> new.csv."
    )


def _ends_empty(row: list[str], columns: int) -> bool:
    return len(row) == columns + 1 and not row[-1].strip(" ")


def _malformed(
    content: bytes, delimiter: str, dialect: Dialect = Dialect()
) -> int:
    """Count malformed rows if quotes are written in a given way."""
    dialect = replace(dialect, padded=delimiter != " ")
    reader = _parsed(_lines(content), delimiter, dialect, strict=True)
    count, columns = 0, 0
    for row in _rows_or_none(reader):
        columns = columns or len(row or ())
        count += row is None or (
            len(row) not in (0, columns) and not _ends_empty(row, columns)
        )
    return count


def _rows_or_none(reader: Any) -> Iterator[list[str] | None]:
    """Yield rows, and None where quotes are malformed."""
    while True:
        try:
            yield next(reader)
        except csv.Error:
            yield None
        except StopIteration:
            return


def _parsed(
    lines: Any, delimiter: str, dialect: Dialect, **settings: Any
) -> Any:
    settings["skipinitialspace"] = dialect.padded
    if dialect.unquoted:
        settings["quoting"] = csv.QUOTE_NONE
    if dialect.escaped:
        # Nothing but quotes and backslashes: \N stays what it is.
        other = re.compile(r'\\([\\"])|\\')
        lines = (
            other.sub(lambda b: b[0] if b[1] else "\\\\", line)
            for line in lines
        )
        settings |= {"escapechar": "\\", "doublequote": False}
    return csv.reader(lines, delimiter=delimiter, **settings)


class Rewritten:
    """A text file as standard CSV, as `pyarrow.PythonFile` reads it.

    Args:
        path: The file.
        delimiter: Between its columns.
        dialect: How it is written.
    """

    def __init__(self, path: Path, delimiter: str, dialect: Dialect) -> None:
        self._file = io.TextIOWrapper(
            open_text(path), encoding="utf-8-sig", newline=""
        )
        self._delimiter = delimiter
        self._rows = self._standard(dialect)
        self._ready = bytearray()

    def _standard(self, dialect: Dialect) -> Iterator[list[str]]:
        """Yield rows without blanks and delimiters that are not theirs."""
        self._reader = _parsed(self._file, self._delimiter, dialect)
        columns = 0
        for row in self._reader:
            columns = columns or len(row)
            if dialect.trailing and _ends_empty(row, columns):
                row.pop()
            yield [v.strip(" ") for v in row] if dialect.padded else row

    def _written(self, rows: list[list[str]]) -> str:
        text = io.StringIO(newline="")
        csv.writer(
            text, delimiter=self._delimiter, lineterminator="\n"
        ).writerows(rows)
        return text.getvalue()

    def line(self, text: str) -> int:
        """Find the line in which a row of standard CSV ends; 0: none."""
        for row in self._rows:
            if self._written([row]).rstrip("\n") == text:
                return int(self._reader.line_num)
        return 0

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes."""
        while len(self._ready) < size:
            rows = list(itertools.islice(self._rows, _REWRITTEN))
            if not rows:
                break
            self._ready += self._written(rows).encode()
        part = bytes(self._ready[:size])
        del self._ready[:size]
        return part

    def readable(self) -> bool:
        """Tell PyArrow that the file can be read."""
        return True

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return self._file.closed

    def close(self) -> None:
        """Close the file."""
        self._file.close()
