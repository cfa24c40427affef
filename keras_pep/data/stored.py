"""A prepared dataset on disk: one file of integers for every field.

```
<folder>/dataset.json        name, fields, rows, notes, fingerprint
<folder>/values.arrow        the values of each field, a record batch for each
<folder>/train/label.npy     uint8, 0 or 1
<folder>/train/weight.npy    float32, if examples have weights
<folder>/train/0.npy         ids of the first field, in the narrowest integers
<folder>/train/3.npy         if the fourth is a list, a matrix, -1 for no value
<folder>/validation/...      likewise
<folder>/seen.parquet        how often training has each value
```
"""

import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from keras_pep.data.dataset import (
    DataError,
    Dataset,
    Parsed,
    Split,
    Unseen,
)
from keras_pep.data.fields import Vocabulary
from keras_pep.data.growth import SEEN

# The layout above, and how values are spelled and read. Another one gets
# another number, and is prepared anew.
FORMAT = 4

SPLITS = ("train", "validation", "test")
_DESCRIPTION = "dataset.json"
VALUES = "values.arrow"
_VALUES_SCHEMA = pa.schema({"value": pa.large_string()})
_COPIED = 65_536  # rows that are gathered at once


def keep_fields(folder: Path, kept: Sequence[int], fields: int) -> None:
    """Remove the files of other fields, and rename the rest.

    Args:
        folder: Of all splits.
        kept: Places of those that stay, ascending.
        fields: How many there are.
    """
    for split, place in itertools.product(SPLITS, range(fields)):
        path = folder / split / f"{place}.npy"
        if place not in kept:
            path.unlink()
        elif place != (now := kept.index(place)):
            path.rename(path.with_name(f"{now}.npy"))


def narrowest(size: int, *, negative: bool = False) -> np.dtype[Any]:
    """Choose the smallest integer type for ids below `size`, and for -1."""
    return np.min_scalar_type(-size if negative else max(size - 1, 0))


class ColumnWriter:
    """Writes a column of known length to an `.npy` file of each split.

    A file is open only while it is written to: there may be more columns than
    a process may have open files.

    Args:
        folder: Of the splits.
        name: Of the files.
        dtype: Of the column.
        sizes: Rows of each split.
        length: Of lists; 1 for a vector.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        dtype: np.dtype[Any],
        sizes: np.ndarray,
        length: int = 1,
    ) -> None:
        self._paths = [folder / split / f"{name}.npy" for split in SPLITS]
        self._dtype = dtype
        self._missing = sizes.copy()
        header: dict[str, Any] = {"descr": dtype.str, "fortran_order": False}
        for path, rows in zip(self._paths, sizes.tolist(), strict=True):
            path.parent.mkdir(exist_ok=True)
            header["shape"] = (rows,) if length == 1 else (rows, length)
            with path.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, header)

    def write(self, rows: Sequence[np.ndarray]) -> None:
        """Add some rows of each split."""
        for path, some in zip(self._paths, rows, strict=True):
            with path.open("ab") as file:
                file.write(np.ascontiguousarray(some, self._dtype).data)
        self._missing -= [len(some) for some in rows]

    @property
    def complete(self) -> bool:
        """Whether all rows have been written, and no more."""
        return not self._missing.any()


class StoredColumns:
    """Integers in files, one for each field, that index like a matrix.

    Only what is asked for is read: `columns[10:20]` and `columns[[3, 1]]` are
    int32 arrays `(rows, columns)`.

    Args:
        paths: `.npy` files of vectors, or of matrices for lists, all of the
            same length.

    Raises:
        ValueError: If a file is damaged, or of another length.
        OSError: If a file is missing.
    """

    dtype = np.dtype(np.int32)

    def __init__(self, paths: Sequence[Path]) -> None:
        # Mapped when they are read: a map is an open file, and there may be
        # more columns than a process may have of these.
        self._maps = [_map_of(path) for path in paths]
        shapes = [each["shape"] for each in self._maps]
        if len({rows for rows, _ in shapes}) != 1:
            raise ValueError(f"{paths[0].parent}: columns of other lengths")
        columns = sum(columns for _, columns in shapes)
        self.shape: tuple[int, int] = (shapes[0][0], columns)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        parts = (_rows_of(each, rows) for each in self._maps)
        first = next(parts)
        made = np.empty((len(first), self.shape[1]), dtype=np.int32)
        place = 0
        for part in itertools.chain([first], parts):
            made[:, place : place + part.shape[1]] = part
            place += part.shape[1]
        return made

    def in_memory(self) -> np.ndarray:
        """All rows."""
        made = np.empty(self.shape, dtype=np.int32)
        # By blocks of rows that fit the caches of a processor.
        for start in range(0, len(self), _COPIED):
            part = slice(start, start + _COPIED)
            made[part] = self[part]
        return made


def _map_of(path: Path) -> dict[str, Any]:
    """Arguments of `numpy.memmap` for an `.npy` file, as a matrix."""
    found = np.load(path, mmap_mode="r")
    return {
        "filename": path,
        "dtype": found.dtype,
        "mode": "r",
        "offset": found.offset,
        "shape": (len(found), found.size // max(len(found), 1)),
    }


def _rows_of(each: dict[str, Any], rows: slice | np.ndarray) -> np.ndarray:
    """Read some rows of an `.npy` file that `_map_of` describes."""
    if not isinstance(rows, slice) or rows.step not in (None, 1):
        found: np.ndarray = np.memmap(**each)[rows]
        return found
    # The system would read neighbours of what a map or a buffer needs.
    first, end, _ = rows.indices(each["shape"][0])
    dtype, width = each["dtype"], each["shape"][1]
    size = width * dtype.itemsize
    content = bytearray(max(end - first, 0) * size)
    with Path(each["filename"]).open("rb", buffering=0) as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        file.seek(each["offset"] + first * size)
        if file.readinto(content) != len(content):
            raise OSError(f"{each['filename']}: is shorter than it was")
    return np.frombuffer(content, dtype).reshape(-1, width)


def write_values(folder: Path, values: Iterable[Any]) -> None:
    """Write the values of each field, PyArrow arrays of text."""
    with (
        (folder / VALUES).open("wb") as file,
        pa.ipc.new_file(file, _VALUES_SCHEMA) as writer,
    ):
        for each in values:
            column = each.cast(pa.large_string())
            writer.write_batch(pa.record_batch([column], _VALUES_SCHEMA))


def vocabularies(
    folder: Path, fields: Iterable[Mapping[str, Any]]
) -> list[Vocabulary]:
    """Map the values that `write_values` has written.

    Args:
        folder: Of their file.
        fields: Vocabularies as `to_dict` describes them, where `"values"` is
            the number of a field when they were written.
    """
    reader = pa.ipc.open_file(pa.memory_map(str(folder / VALUES)))
    return [
        Vocabulary.from_dict(
            {**each, "values": reader.get_batch(each["values"]).column(0)}
        )
        for each in fields
    ]


def write_description(folder: Path, description: dict[str, Any]) -> None:
    """Says what a folder of columns holds; the last file to be written."""
    (folder / _DESCRIPTION).write_text(
        json.dumps(
            {
                "format": FORMAT,
                "fingerprint": _fingerprint(
                    *(folder, description),
                    vocabularies(folder, description["fields"]),
                ),
                **description,
            }
        ),
        encoding="utf-8",
    )


def _fingerprint(
    folder: Path,
    description: Mapping[str, Any],
    made: Iterable[Vocabulary],
) -> str:
    """Compute the SHA-256 of all files and settings, without the notes.

    It is that of a description in which the vocabularies are whole.
    """
    told = ("notes", "unseen", "columns")
    content = {k: v for k, v in description.items() if k not in told}
    start = '"fields": ['
    before, after = json.dumps({**content, "fields": []}, sort_keys=True).split(
        start
    )
    digest = hashlib.sha256((before + start).encode())
    for place, vocabulary in enumerate(made):
        digest.update(b", " * bool(place))
        for part in vocabulary.json():
            digest.update(part.encode())
    digest.update(after.encode())
    for path in sorted(folder.glob("*/*.npy")):
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def open_folder(folder: Path, in_memory: int) -> Dataset:
    """Open the dataset that a folder of columns holds.

    Args:
        folder: What `prepare` has written.
        in_memory: Bytes of ids, int32, up to which all rows are read into
            memory; else they stay on disk.

    Raises:
        DataError: If the folder is damaged.
    """
    try:
        content = json.loads((folder / _DESCRIPTION).read_text("utf-8"))
        version, known = content.pop("format"), content.pop("fingerprint")
        if version != FORMAT:
            raise ValueError(f"format {version}")
        made = vocabularies(folder, content["fields"])
        if known != _fingerprint(folder, content, made):
            raise ValueError("files have changed since they were written")
        ids = {
            split: StoredColumns(
                [folder / split / f"{n}.npy" for n in range(len(made))]
            )
            for split in SPLITS
        }
        size = sum(4 * len(each) * each.shape[1] for each in ids.values())
        splits: dict[str, Split] = {}
        for split, columns in ids.items():
            labels = np.load(folder / split / "label.npy").astype(np.float32)
            if len(columns) != len(labels):
                raise ValueError(f"{split}: labels of another length")
            weights = None
            if content.get("weighted"):
                weights = np.load(folder / split / "weight.npy")
                if len(weights) != len(labels):
                    raise ValueError(f"{split}: weights of another length")
            read = columns.in_memory() if size <= in_memory else columns
            splits[split] = Split(read, labels, weights)
        return Dataset(
            name=content["name"],
            features=content["features"],
            train=splits["train"],
            validation=splits["validation"],
            test=splits["test"],
            vocabularies={v.field.name: v for v in made},
            malformed=content["malformed"],
            unknown={k: np.array(v) for k, v in content["unknown"].items()},
            unseen={k: Unseen(*v) for k, v in content["unseen"].items()},
            notes=tuple(content["notes"]),
            columns=tuple(Parsed(*each) for each in content["columns"]),
            seen=path if (path := folder / SEEN).exists() else None,
            stored_fingerprint=known,
        )
    except (OSError, KeyError, TypeError, ValueError, EOFError) as error:
        raise DataError(
            f"{folder}: damaged, {error!r}; remove it, and it is made again."
        ) from error
