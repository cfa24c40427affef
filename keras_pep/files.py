"""Files that appear whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place to write a file, which becomes `path` when all went well.

    After an error or an interrupt, `path` is as it was before.

    Args:
        path: Where the file is to appear. Its folder must exist.

    Yields:
        A path in the same folder, with the same suffix.
    """
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
