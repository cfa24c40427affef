"""Files of the user's own: CSV, TSV or Parquet, one file or many parts."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_pep.data import rows
from keras_pep.data.dataset import DataError
from keras_pep.data.fields import KINDS, Field, of_kind
from keras_pep.data.guess import check_times, guess
from keras_pep.data.labels import parsed
from keras_pep.data.rows import Column, Files, Malformed
from keras_pep.data.source import OWN, Source
from keras_pep.data.splits import Rule, rule_of
from keras_pep.data.stored import SPLITS
from keras_pep.data.times import pattern_of


def source(
    path: str | Path,
    label: str | None,
    fields: Sequence[str] = (),
    delimiter: str | None = None,
    min_count: float = 10,
    split: str = "random",
    validation_file: str | Path | None = None,
    test_file: str | Path | None = None,
    positive: str | None = None,
    weight: str | None = None,
) -> Source:
    """Describe the files to prepare.

    Args:
        path: A file that ends in `.csv`, `.tsv`, `.txt` or `.parquet`, with
            `.gz`, `.zst` or `.bz2` after it if it is text, or a folder of such
            files. The first line names the columns, and so do folders such as
            `day=2026-11-22`.
        label: The column of labels.
        fields: The columns to learn from; by default all others, but for row
            numbers without a name, as pandas adds them. The kind of a field,
            which else is guessed from the values that the first rows have, can
            be given after a colon: `"price:number"`. It is one of `category`,
            `text`, `number`, `log`, `list`, `hour`, `weekday`, and `time` for
            the last two, which may have a format in brackets:
            `"when:time(%m/%d/%Y %H:%M)"`; or `hash` with a number of buckets:
            `"user:hash(1048576)"`.
        delimiter: Between columns; by default `,`, and a tab for `.tsv` and
            `.txt`.
        min_count: Values in fewer training rows share one id of their field.
        split: How rows are split; see `load`.
        validation_file: Where the rows for validation are, if not at `path`;
            as `path`, with the same columns.
        test_file: Likewise those for test.
        positive: Which labels are positive, if they are not 0 and 1; see
            `load`.
        weight: The column of weights, if examples have some.

    Raises:
        DataError: If the files or the columns are not as described.
    """
    notes: list[str] = []
    apart = (validation_file, test_file)
    files, counts = _files(path, apart, delimiter, notes.append)
    columns = rows.header(files, notes.append)
    kinds = dict(_kind(field, columns) for field in fields)
    if len(kinds) < len(fields):
        raise DataError(
            f"found a field twice in {', '.join(fields)}, expected each once."
        )
    if label is None:
        raise DataError(
            f"{path}: which column is the label? Name it with --label (in "
            f"Python: label=); there are {rows.listed(columns)}."
        )
    if positive is not None:
        parsed(positive)
    several = [label] if isinstance(label, str) else label
    if label not in columns and isinstance(label, str):
        several = [part.strip() for part in label.split(",")]
    if len(several) > 1 and {*several} <= {*columns}:
        raise DataError(
            f"found {len(several)} label columns, {', '.join(several)}, "
            "expected one: a model predicts one label. Train one for each."
        )
    rule = rule_of(split, columns, label, tuple(kinds))
    if any(apart):
        rule = Rule("files", files=counts)
    used = (label, *kinds, *filter(None, [rule.column, weight]))
    missing = [name for name in used if name not in columns]
    if missing:
        raise rows.no_column(files, missing, columns)
    if label in kinds:
        raise DataError(
            f"{label!r} is the label, and cannot be a field as well."
        )
    if weight in (label, *kinds, rule.column):
        raise DataError(
            f"{weight!r} is the weight, and cannot be the label, a field or "
            "what rows are split by as well."
        )
    guessed = not kinds
    if guessed:
        not_fields = (weight, rule.column if rule.by == "column" else None)
        others = [c for c in columns if c not in not_fields]
        kinds = _all_others(files, others, label, notes.append)
    made, why = _fields(files, kinds, notes.append)
    special = {label, *kinds, *filter(None, [weight, rule.column])}
    if rule.by == "time" and not rule.time_format:
        formats = [f.time_format for f in made if f.column == rule.column]
        rule = replace(rule, time_format=next(iter(formats), ""))
    return Source(
        name=Path(path).name.split(".")[0],
        features=OWN,
        files=files,
        label=label,
        fields=made,
        positive=positive or "",
        weight=weight or "",
        min_count=min_count,
        split=rule,
        guessed=guessed,
        notes=tuple(notes),
        why=why,
        left_out=tuple(
            (name, _ROW_NUMBERS if guessed else "not in --fields")
            for name in columns
            if name not in special
        ),
    )


_ROW_NUMBERS = "row numbers"


def _files(
    path: str | Path,
    others: tuple[str | Path | None, ...],
    delimiter: str | None,
    say: Callable[[str], None],
) -> tuple[Files, tuple[int, ...]]:
    """Find the files of all splits, and count those of each.

    Raises:
        DataError: If one is that of two splits.
    """
    found = [
        rows.files_of(Path(source), delimiter, say) if source else None
        for source in (path, *others)
    ]
    counts = tuple(len(each.paths) if each else 0 for each in found)
    paths = [path for each in found if each for path in each.paths]
    twice = Counter(path.resolve() for path in paths).most_common(1)[0]
    if twice[1] > 1:
        raise DataError(
            f"found {twice[0]} in two of the sets for training, validation and "
            "test, expected each file in one."
        )
    for name, source in zip(SPLITS[1:], others, strict=True):
        if any(others) and not source:
            say(
                f"{path}: a tenth of its rows, drawn by the seed, is for "
                f"{name}, as there is no --{name}-file (in Python: "
                f"{name}_file=)."
            )
    assert found[0] is not None
    parts = tuple(
        tuple(each.part(file).items())
        for each in found
        if each
        for file in range(len(each.paths))
    )
    return replace(found[0], paths=tuple(paths), parts=parts), counts


def _all_others(
    files: Files,
    columns: Sequence[str],
    label: str,
    say: Callable[[str], None],
) -> dict[str, "_Kind"]:
    """Choose the columns to learn from if none are given."""
    path = files.paths[0]
    left_out = [c for c in columns if rows.unnamed(c) and c != label]
    if left_out:
        say(
            f"{path}: left out {rows.listed(left_out)}, taken for row numbers "
            "that pandas has added; --fields names the columns to learn from"
        )
    kept = [c for c in columns if c not in {label, *left_out}]
    if not kept:
        raise DataError(
            f"{path}: found no column but {label!r}, expected fields."
        )
    alike: dict[str, str] = {}
    for name in (label, *kept):
        other = alike.setdefault(name.strip().casefold(), name)
        if other != name:
            raise DataError(
                f"{path}: found the columns {other!r} and {name!r}, which "
                "differ in capitals or blanks alone. Name those to learn from "
                "with --fields (in Python: fields=)."
            )
    return {name: _Kind() for name in kept}


class _Kind(NamedTuple):
    """Kind and format of a field, as far as the user has given them."""

    kind: str | None = None
    time_format: str = ""
    buckets: int = 0


_TIMES = ("time", "hour", "weekday")


def _kind(field: str, columns: Sequence[str]) -> tuple[str, _Kind]:
    """Split the name and kind of a field: `"when:time(%H:%M)"`."""
    if field in columns:
        return field, _Kind()
    if found := re.fullmatch(rf"(.*?):({'|'.join(_TIMES)})\((.*)\)", field):
        name, kind, time_format = found.groups()
        try:
            pattern_of(time_format or "%")
        except ValueError as error:
            raise DataError(f"{error}.") from error
        return name, _Kind(kind, time_format)
    if found := re.fullmatch(r"(.*):hash(?:\((.*)\))?", field):
        name, buckets = found.groups()
        if not (buckets or "").isdecimal() or not 1 < int(buckets) < 2**31:
            raise DataError(
                f"found {field!r}, expected a number of buckets in brackets, "
                f"as in {name}:hash(1048576)."
            )
        return name, _Kind("hash", buckets=int(buckets))
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
    files: Files, kinds: dict[str, _Kind], say: Callable[[str], None]
) -> tuple[tuple[Field, ...], tuple[str, ...]]:
    """Fields of columns, of a kind that is given or guessed, and why."""
    looked_at = [
        name
        for name, (kind, time_format, _) in kinds.items()
        if kind is None or (kind in _TIMES and not time_format)
    ]
    columns: dict[str, Column] = {}
    if looked_at:
        malformed = Malformed()
        first = next(rows.blocks(files, looked_at, malformed), None)
        if first is None:
            raise rows.no_rows(files, malformed)
        columns = first.columns
    fields: list[Field] = []
    why: list[str] = []
    for name, (kind, time_format, buckets) in kinds.items():
        note = ""
        if kind is None:
            where = partial(_row, columns[name])
            found = guess(name, columns[name].values, where)
            fields += found.fields
            note, reason = found.note, found.why
        else:
            fields += of_kind(name, kind, time_format, buckets)
            reason = "as --fields says"
            if name in columns:
                note = check_times(name, columns[name].values)
        why += [reason] * (len(fields) - len(why))
        if note:
            say(note)
    for name, times in Counter(field.name for field in fields).items():
        if times > 1:
            of = [each.column for each in fields if each.name == name]
            raise DataError(
                f"two fields would be called {name!r}, of the columns "
                f"{' and '.join(map(repr, of))}. Expected: --fields without "
                "one of them, or with another kind, such as "
                f"{of[0]}:weekday for a time."
            )
    return tuple(fields), tuple(why)


def _row(column: Column, text: str) -> str:
    """Say where a value is first found in the first block, for a note."""
    places = np.flatnonzero(column.values.to_numpy(False) == text)
    row = int(np.isin(column.codes, places).argmax())
    return f" (row {row + 1:,})"
