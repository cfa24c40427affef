"""Vocabularies as files: one a field, one value a line, by falling count.

TensorFlow Transform writes them so, and every engine of SQL can. The file of
the field `user` is `user.txt`. An empty line is the missing value; values that
hold the end of a line cannot be written.
"""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from keras_pep.data.dataset import DataError, Dataset
from keras_pep.data.fields import Field
from keras_pep.data.rows import listed
from keras_pep.data.spelling import spelled
from keras_pep.files import whole_folder

logger = logging.getLogger(__name__)

_KINDS = ("category", "text", "list")  # whose values are those of a column
_WRITTEN = 65_536  # values at once
_NOT_OF_NAMES = re.compile(r'[/\\:*?"<>|%\x00-\x1f]')


def file_name(field: str) -> str:
    """Name the file of a field."""
    plain = _NOT_OF_NAMES.sub(lambda mark: f"%{ord(mark[0]):02X}", field)
    return f"{plain}.txt"


def files_of_fields(
    folder: Path, fields: Sequence[Field]
) -> tuple[tuple[str, Path], ...]:
    """Find the files of a folder that are vocabularies of fields.

    Returns:
        Names of fields, and the file of each. Other fields are counted.

    Raises:
        DataError: If there is no folder or file, or a file for a field whose
            values are made, not found.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder, expected vocabularies.")
    found = [
        (field, path)
        for field in fields
        if (path := folder / file_name(field.name)).is_file()
    ]
    if not found:
        names = listed([file_name(field.name) for field in fields])
        raise DataError(f"{folder}: found no vocabulary, expected {names}.")
    for field, path in found:
        if field.kind not in _KINDS:
            raise DataError(
                f"{path}: found a vocabulary for {field.name}, a field of kind "
                f"{field.kind}, expected one of kind {', '.join(_KINDS)}."
            )
    return tuple((field.name, path) for field, path in found)


def read_values(path: Path, field: Field) -> Any:
    """Read the values of a field, each once, in the order of the file.

    Returns:
        A PyArrow array of text.

    Raises:
        DataError: If the file has none, or is no text in UTF-8.
    """
    content = np.fromfile(path, np.uint8)
    if not content.size:
        raise DataError(f"{path}: is empty, expected a value in each line.")
    ends = np.flatnonzero(content[:-1] == ord("\n")) + 1
    edges = np.concatenate([[0], ends, [content.size]])
    buffers = pa.py_buffer(edges), pa.py_buffer(content)
    lines = pa.LargeStringArray.from_buffers(len(edges) - 1, *buffers)
    try:
        lines.validate(full=True)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: expected text in UTF-8: {error}.") from error
    texts = pa.compute.replace_substring_regex(lines, "\r?\n?$", "")
    if field.kind != "text":
        texts = spelled(texts)
    return pa.compute.unique(texts)


def write_vocabularies(dataset: Dataset, folder: str | Path) -> None:
    """Write the values of every field by falling count in training.

    Args:
        dataset: Whose values; fields of numbers, times and hashes have none.
        folder: Where to; it must not exist, or be empty.

    Raises:
        DataError: If it has files, or cannot be written.
    """
    folder = Path(folder)
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(
            f"{folder}: has files, expected a new folder for vocabularies."
        )
    counts = np.split(dataset.counts(), np.cumsum(dataset.field_sizes))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(folder) as partial:
            for each, count in zip(
                dataset.vocabularies.values(), counts[:-1], strict=True
            ):
                if each.field.kind not in _KINDS:
                    continue
                order = np.argsort(-count[each.unknown :], kind="stable")
                lines = each.texts().take(pa.array(order)).drop_null()
                broken = pa.compute.match_substring_regex(lines, "[\r\n]")
                if left_out := pa.compute.sum(broken).as_py():
                    logger.warning(
                        f"{each.field.name}: left out {left_out:,} values that "
                        "hold the end of a line"
                    )
                plain = lines.filter(pa.compute.invert(broken))
                with (partial / file_name(each.field.name)).open("wb") as file:
                    for start in range(0, len(plain), _WRITTEN):
                        part = plain[start : start + _WRITTEN].to_pylist()
                        file.write("\n".join([*part, ""]).encode())
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written: {error.strerror or error}."
        ) from error
