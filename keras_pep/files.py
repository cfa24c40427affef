"""Files and folders that appear whole or not at all."""

import contextlib
import errno
import fcntl
import glob
import os
import shutil
import uuid
import zipfile
import zlib
from collections.abc import Iterable, Iterator
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
        _on_disk(partial)
        partial.replace(path)
        _on_disk(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def check_archive(path: Path) -> None:
    """Reads a ZIP file, and compares what is in it with its checksums.

    Who reads an entry only as far as needed, as NumPy does, may not notice.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise ValueError(str(error)) from error
    if damaged is not None:
        raise ValueError(f"{damaged} has changed since it was written")


_PARTIAL = ".partial"


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `folder` when all went well.

    Its lock is held, and goes with the process: what can be locked is what a
    process that was killed has left, and is removed first.

    Args:
        folder: Where it is to appear. Its parent must exist.

    Yields:
        A folder beside it, whose name is no number.

    Raises:
        OSError: If there is a folder with files in its place by then.
    """
    for remains in folder.parent.glob(
        f"{glob.escape(folder.name)}.*{_PARTIAL}"
    ):
        with contextlib.suppress(OSError), locked(remains):
            shutil.rmtree(remains, ignore_errors=True)
    with contextlib.ExitStack() as stack:
        partial = _new(folder, stack)
        stack.callback(shutil.rmtree, partial, ignore_errors=True)
        yield partial
        for path in (*partial.rglob("*"), partial):
            _on_disk(path)
        partial.rename(folder)
        _on_disk(folder.parent)


def _on_disk(path: Path) -> None:
    """Waits until a file, or the list of a folder's files, is on the disk.

    A name that is there before its content would be that of an empty file, if
    the power fails.
    """
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        # Some file systems over a network cannot do it for folders.
        refused = error.errno in (errno.EINVAL, errno.ENOTSUP)
        if not (refused and path.is_dir()):
            raise
    finally:
        os.close(number)


def remove_unlocked(paths: Iterable[Path]) -> None:
    """Removes files, but for those that a process has locked.

    Raises:
        OSError: If one cannot be removed.
    """
    for path in paths:
        with (
            contextlib.suppress(BlockingIOError, FileNotFoundError),
            locked(path),
        ):
            path.unlink()


def _new(folder: Path, stack: contextlib.ExitStack) -> Path:
    """A locked folder beside another.

    Between its making and its locking another process may have taken it for
    what was left: then there is a next one.
    """
    while True:
        partial = folder.with_name(
            f"{folder.name}.{uuid.uuid4().hex}{_PARTIAL}"
        )
        partial.mkdir()
        with contextlib.suppress(BlockingIOError, FileNotFoundError):
            stack.enter_context(locked(partial))
            if partial.is_dir():
                return partial


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Locks a folder or a file, for as long as the process lives.

    Raises:
        OSError: If another process has, or it cannot be opened.
    """
    number = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(number)
