"""SavedModels in an object store, `s3://bucket/model/1`.

A store has no folders to rename: files appear one by one, and `saved_model.pb`,
without which no server takes a version, is the last.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_LAST = "saved_model.pb"


@contextlib.contextmanager
def sent(uri: str) -> Iterator[Path]:
    """Give a folder to fill, whose files are copied when all went well.

    If they cannot be, those that were are removed.

    Args:
        uri: Of the folder that they are copied to; there must be none.

    Raises:
        FileExistsError: If there is one.
        OSError: If they cannot be written.
    """
    import pyarrow as pa
    import pyarrow.fs

    store, place = _opened(uri)
    if store.get_file_info(place).type is not pa.fs.FileType.NotFound:
        raise FileExistsError(uri)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "1")
        yield folder
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        paths.sort(key=lambda path: path.name == _LAST)
        there: list[str] = []
        try:
            for path in paths:
                target = f"{place}/{path.relative_to(folder).as_posix()}"
                if store.type_name == "local":
                    store.create_dir(target.rpartition("/")[0], recursive=True)
                there.append(target)
                with (
                    path.open("rb") as file,
                    store.open_output_stream(target) as stream,
                ):
                    stream.upload(file)
        except BaseException:
            for target in there:
                with contextlib.suppress(OSError):
                    store.delete_file(target)
            raise


def names_in(uri: str) -> list[str]:
    """List what is in a folder; nothing if there is none."""
    import pyarrow as pa
    import pyarrow.fs

    store, place = _opened(uri)
    every = pa.fs.FileSelector(place, allow_not_found=True)
    return [found.base_name for found in store.get_file_info(every)]


def _opened(uri: str) -> tuple[Any, str]:
    import pyarrow as pa
    import pyarrow.fs

    try:
        store, place = pa.fs.FileSystem.from_uri(uri)
    except pa.ArrowInvalid as error:
        raise OSError(str(error)) from error
    return store, place
