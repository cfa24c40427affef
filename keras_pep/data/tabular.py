"""Files of the user's own: CSV, TSV or Parquet, one file or many parts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from keras_pep.data import rows
from keras_pep.data.dataset import DataError
from keras_pep.data.fields import KINDS, Field, of_kind
from keras_pep.data.guess import guess
from keras_pep.data.prepare import Source
from keras_pep.data.rows import Block, Files, Malformed
from keras_pep.data.times import pattern_of


def source(
    path: str | Path,
    label: str | None,
    fields: Sequence[str] = (),
    delimiter: str | None = None,
    min_count: int = 10,
) -> Source:
    """What to prepare.

    Args:
        path: A file that ends in `.csv`, `.tsv`, `.txt` or `.parquet`, with
            `.gz` behind if it is text, or a folder of such files. The first
            line names the columns.
        label: The column of labels, 0 or 1.
        fields: The columns to learn from; by default all others. The kind of a
            field, which else is guessed from the values that the first rows
            have, can be given after a colon: `"price:number"`. It is one of
            `category`, `text`, `number`, `log`, `list`, `hour`, `weekday`, and
            `time` for the last two, which may have a format in brackets:
            `"when:time(%m/%d/%Y %H:%M)"`.
        delimiter: Between columns; by default `,`, and a tabulator for `.tsv`
            and `.txt`.
        min_count: Values in fewer training rows share one id of their field.

    Raises:
        DataError: If the files or the columns are not as described.
    """
    if delimiter is not None and (
        len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n'
    ):
        raise DataError(
            f"found the delimiter {delimiter!r}, expected one ASCII character, "
            "neither a quote nor the end of a line."
        )
    paths = rows.find(Path(path))
    by_tabs = not rows.kind_of(paths[0]).startswith((".csv", ".parquet"))
    files = Files(paths, delimiter=delimiter or ("\t" if by_tabs else ","))
    columns = rows.header(files)
    kinds = dict(_kind(field, columns) for field in fields)
    if len(kinds) < len(fields):
        raise DataError(
            f"found a field twice in {', '.join(fields)}, expected each once."
        )
    if label is None:
        raise DataError(
            f"{path}: which column is the label? Name it with --label (in "
            f"Python: label=); there are {', '.join(columns)}."
        )
    for name in (label, *kinds):
        if name not in columns:
            hint = (
                f" Is {files.delimiter!r} what divides the columns? "
                "--delimiter names another."
                if len(columns) == 1
                else ""
            )
            raise DataError(
                f"{paths[0]}: found no column {name!r}, expected one of "
                f"{', '.join(columns)}.{hint}"
            )
    if label in kinds:
        raise DataError(
            f"{label!r} is the label, and cannot be a field as well."
        )
    guessed = not kinds
    kinds = kinds or {c: _Kind() for c in columns if c != label}
    if not kinds:
        raise DataError(
            f"{paths[0]}: found no column but {label!r}, expected fields."
        )
    made, notes = _fields(files, kinds)
    return Source(
        name=Path(path).name.split(".")[0],
        features="own",
        files=files,
        label=label,
        fields=made,
        min_count=min_count,
        guessed=guessed,
        notes=notes,
    )


@dataclass(frozen=True)
class _Kind:
    """What is said of a field: nothing, its kind, or that and its format."""

    kind: str | None = None
    time_format: str = ""


_TIMES = ("time", "hour", "weekday")


def _kind(field: str, columns: Sequence[str]) -> tuple[str, _Kind]:
    """Name and kind of a field: `"price:number"`, `"when:time(%H:%M)"`."""
    if field in columns:
        return field, _Kind()
    if found := re.fullmatch(rf"(.*?):({'|'.join(_TIMES)})\((.*)\)", field):
        name, kind, time_format = found.groups()
        try:
            pattern_of(time_format or "%")
        except ValueError as error:
            raise DataError(f"{error}.") from error
        return name, _Kind(kind, time_format)
    name, colon, kind = field.rpartition(":")
    if not colon:
        return field, _Kind()
    if kind not in (*KINDS, "time"):
        raise DataError(
            f"found the kind {kind!r} in {field!r}, expected one of "
            f"{', '.join((*KINDS, 'time'))}, or a time with its format, as in "
            "when:time(%m/%d/%Y %H:%M)."
        )
    return name, _Kind(kind)


def _fields(
    files: Files, kinds: dict[str, _Kind]
) -> tuple[tuple[Field, ...], tuple[str, ...]]:
    """Fields of columns, of a kind that is given or guessed, and notes."""
    unknown = [name for name, kind in kinds.items() if kind.kind is None]
    first = None
    if unknown:
        first = next(rows.blocks(files, unknown, Malformed()), None)
        if first is None:
            raise DataError(f"{files.paths[0]}: found no rows, expected some.")
    fields: list[Field] = []
    notes = []
    for name, kind in kinds.items():
        if kind.kind is not None:
            fields += of_kind(name, kind.kind, kind.time_format)
        elif first is not None:
            found = guess(
                name,
                first.columns[name].values,
                partial(_row, first, name),
            )
            fields += found.fields
            notes += [found.note] if found.note else []
    names = [field.name for field in fields]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"two fields would be called {name!r}.")
    return tuple(fields), tuple(notes)


def _row(block: Block, name: str, text: str) -> str:
    """Where a value is first found in a block, for a note."""
    column = block.columns[name]
    places = np.flatnonzero(column.values.to_numpy(False) == text)
    row = int(np.isin(column.codes, places).argmax())
    return f" (row {block.first + row + 1:,})"
