"""A prepared dataset on disk: one file of integers for every column.

```
<folder>/dataset.json        name, fields, vocabularies, rows, fingerprint
<folder>/train/label.npy     uint8, 0 or 1
<folder>/train/0.npy         ids of the first field, in the narrowest integers
<folder>/train/3-1.npy       second value of the fourth field, a list; or -1
<folder>/validation/...      likewise
```
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_pep.data.dataset import DataError, Dataset, Split
from keras_pep.data.fields import Vocabulary

# The layout above. Another one gets another number, and is prepared anew.
FORMAT = 1

_DESCRIPTION = "dataset.json"
_COPIED = 65_536  # rows that are gathered at once


def label_path(folder: Path) -> Path:
    """The file of a split's labels."""
    return folder / "label.npy"


def column_paths(folder: Path, place: int, length: int) -> list[Path]:
    """The files of a field of a split."""
    if length == 1:
        return [folder / f"{place}.npy"]
    return [folder / f"{place}-{number}.npy" for number in range(length)]


def narrowest(size: int, *, negative: bool = False) -> np.dtype[Any]:
    """The smallest integer type for ids below `size`, and for -1 if asked."""
    return np.min_scalar_type(-size if negative else max(size - 1, 0))


class ColumnWriter:
    """Writes an array of known length to an `.npy` file, piece by piece."""

    def __init__(self, path: Path, dtype: np.dtype[Any], rows: int) -> None:
        path.parent.mkdir(exist_ok=True)
        self._dtype = dtype
        self._file = path.open("wb")
        np.lib.format.write_array_header_1_0(
            self._file,
            {
                "descr": np.lib.format.dtype_to_descr(dtype),
                "fortran_order": False,
                "shape": (rows,),
            },
        )

    def __enter__(self) -> "ColumnWriter":
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()

    def write(self, values: np.ndarray) -> None:
        """Adds some rows."""
        self._file.write(np.ascontiguousarray(values, self._dtype).data)


class StoredColumns:
    """Integers in files, one for each column, that index like a matrix.

    Only what is asked for is read: `columns[10:20]` and `columns[[3, 1]]` are
    int32 arrays `(rows, columns)`.

    Args:
        paths: `.npy` files of vectors of the same length.

    Raises:
        ValueError: If a file is damaged, or of another length.
        OSError: If a file is missing.
    """

    dtype = np.dtype(np.int32)

    def __init__(self, paths: Sequence[Path]) -> None:
        self._columns = [np.load(p, mmap_mode="r") for p in paths]
        lengths = {column.shape for column in self._columns}
        if len(lengths) != 1 or len(self._columns[0].shape) != 1:
            raise ValueError(f"{paths[0].parent}: columns of other lengths")

    def __len__(self) -> int:
        return len(self._columns[0])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self), len(self._columns)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        first = self._columns[0][rows]
        made = np.empty((len(first), len(self._columns)), dtype=np.int32)
        for place, column in enumerate(self._columns):
            made[:, place] = column[rows]
        return made

    def in_memory(self) -> np.ndarray:
        """All rows."""
        made = np.empty(self.shape, dtype=np.int32)
        # By blocks of rows that fit the caches of a processor.
        for start in range(0, len(self), _COPIED):
            part = slice(start, start + _COPIED)
            made[part] = self[part]
        return made


def write_description(folder: Path, description: dict[str, Any]) -> None:
    """Says what a folder of columns holds; the last file to be written."""
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for path in sorted(folder.glob("*/*.npy")):
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    (folder / _DESCRIPTION).write_text(
        json.dumps(
            {
                "format": FORMAT,
                "fingerprint": digest.hexdigest(),
                **description,
            }
        ),
        encoding="utf-8",
    )


def open_folder(folder: Path, in_memory: int) -> Dataset:
    """The dataset that a folder of columns holds.

    Args:
        folder: What `prepare` has written.
        in_memory: Bytes of ids, int32, up to which all rows are read into
            memory; else they stay on disk.

    Raises:
        DataError: If the folder is damaged.
    """
    try:
        content = json.loads((folder / _DESCRIPTION).read_text("utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}")
        vocabularies = [Vocabulary.from_dict(f) for f in content["fields"]]
        ids = {
            split: StoredColumns(
                [
                    path
                    for place, vocabulary in enumerate(vocabularies)
                    for path in column_paths(
                        folder / split, place, vocabulary.field.length
                    )
                ]
            )
            for split in ("train", "validation", "test")
        }
        labels = {
            split: np.load(label_path(folder / split)).astype(np.float32)
            for split in ids
        }
        for split, columns in ids.items():
            if len(columns) != len(labels[split]):
                raise ValueError(f"{split}: labels of another length")
        size = sum(4 * len(each) * each.shape[1] for each in ids.values())
        splits = {
            split: Split(
                columns.in_memory() if size <= in_memory else columns,
                labels[split],
            )
            for split, columns in ids.items()
        }
        return Dataset(
            name=content["name"],
            features=content["features"],
            train=splits["train"],
            validation=splits["validation"],
            test=splits["test"],
            vocabularies={v.field.name: v for v in vocabularies},
            malformed=content["malformed"],
            unknown={
                split: np.array(content["unknown"][split]) for split in splits
            },
            stored_fingerprint=content["fingerprint"],
        )
    except (OSError, KeyError, TypeError, ValueError, EOFError) as error:
        raise DataError(
            f"{folder}: damaged, {error!r}; remove it, and it is made again."
        ) from error
