"""Files of object stores, `s3://bucket/path`: copied, and read from there.

Preparing reads rows two to four times, so that each byte comes over the network
once. PyArrow knows the stores, and takes keys and endpoints from their usual
variables of the environment.
"""

import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs

from keras_pep.data.dataset import DataError
from keras_pep.files import joined, whole

logger = logging.getLogger(__name__)

_PART = 8 << 20  # bytes that are read at once


def copied(uri: str, folder: Path) -> Path:
    """Copy the files of a URI that are not there yet as they are now.

    Args:
        uri: Of a file or a folder, as `s3://bucket/path` or `gs://bucket/path`.
        folder: Where copies are kept.

    Returns:
        The copy.

    Raises:
        DataError: If there is no such file, or one cannot be read or written.
    """
    try:
        store, start = pa.fs.FileSystem.from_uri(uri)
        found = store.get_file_info(start)
        if found.type is pa.fs.FileType.Directory:
            every = pa.fs.FileSelector(start, recursive=True)
            files = [
                each for each in store.get_file_info(every) if each.is_file
            ]
        else:
            files = [found] if found.is_file else []
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{uri}: cannot be read: {error}") from error
    if not files:
        raise DataError(f"{uri}: no such file or folder, expected rows.")
    copy: Path = folder / store.type_name / start
    there = {folder / store.type_name / each.path: each for each in files}
    try:
        for path in copy.rglob("*"):
            if path.is_file() and path not in there:
                path.unlink()  # of a file that is gone
        for path, each in there.items():
            state = (each.size, each.mtime_ns)
            if path.exists() and _state(path) == state:
                continue
            logger.info(f"{uri}: copying {each.base_name}, {each.size:,} bytes")
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole(path) as partial:
                with partial.open("wb") as file:
                    for part in _parts(store, each):
                        file.write(part)
                os.utime(partial, ns=(each.mtime_ns, each.mtime_ns))
    except OSError as error:
        raise DataError(
            f"{copy}: cannot be written: {error.strerror or error}."
        ) from error
    return copy


def uris_below(uri: str, copy: Path, paths: Iterable[Path]) -> dict[Path, str]:
    """Find the URIs of files that `copied` has copied.

    Args:
        uri: Of all of them.
        copy: Its copy.
        paths: The files.
    """
    return {
        path: uri
        if path == copy
        else str(joined(uri, path.relative_to(copy).as_posix()))
        for path in paths
        if path.is_relative_to(copy)
    }


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _parts(store: Any, found: Any) -> Iterator[bytes]:
    """Read a file of a store to its end."""
    size = 0
    try:
        with store.open_input_stream(found.path) as stream:
            while part := stream.read(_PART):
                size += len(part)
                yield part
    except OSError as error:
        raise DataError(
            f"{store.type_name}://{found.path}: cannot be read to its end: "
            f"{error}"
        ) from error
    if size != found.size:
        raise DataError(
            f"{store.type_name}://{found.path}: found {size:,} bytes, expected "
            f"{found.size:,}. Try again."
        )
