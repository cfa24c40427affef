"""Files and folders that appear whole or not at all."""

import contextlib
import errno
import fnmatch
import glob
import os
import shutil
import time
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

_PARTIAL = ".partial"
_TRIES, _PAUSE = 50, 0.1  # seconds: longer than a file is read for


@contextlib.contextmanager
def whole(path: Path, *, alone: bool = False) -> Iterator[Path]:
    """Give a place to write a file, which becomes `path` when all went well.

    After an error or an interrupt, `path` is as it was before.

    Args:
        path: Where the file is to appear. Its folder must exist.
        alone: Wait until no other process writes the same file, and remove
            what killed ones have left of it. Where there are no locks, neither
            is done.

    Yields:
        A path in the same folder, with the same suffix.
    """
    partial = path.with_name(f"{_PARTIAL}-{os.getpid()}-{path.name}")
    with contextlib.ExitStack() as held:
        if alone:
            with contextlib.suppress(NoLocksError):
                held.enter_context(locked(_lock_of_writers(path), wait=True))
                remove_partials(path.parent, glob.escape(path.name))
        try:
            yield partial
            _on_disk(partial)
            _replace(partial, path)
            _on_disk(path.parent)
        finally:
            partial.unlink(missing_ok=True)


def _replace(partial: Path, path: Path) -> None:
    """Give a file its name, which another may have had."""
    for _ in range(_TRIES if _is_windows() else 0):
        # There it is refused while another process reads the file.
        with contextlib.suppress(PermissionError):
            partial.replace(path)
            return
        time.sleep(_PAUSE)
    partial.replace(path)


def _is_windows() -> bool:
    """Tell whether the system opens no folders, nor removes open files."""
    return not hasattr(os, "O_DIRECTORY")


def remove_partials(folder: Path, pattern: str) -> None:
    """Remove what killed processes have left of files that no other writes.

    Args:
        folder: Where the files are.
        pattern: Their names, as `Path.glob` takes them.
    """
    for path in folder.glob(f"{_PARTIAL}-*-*"):
        if fnmatch.fnmatchcase(path.name.split("-", 2)[2], pattern):
            path.unlink(missing_ok=True)


def remove_partials_unless_written(path: Path) -> None:
    """Remove them of a file that is written `alone`, if it is not just now."""
    with (
        contextlib.suppress(BlockingIOError, NoLocksError),
        locked(_lock_of_writers(path)),
    ):
        remove_partials(path.parent, glob.escape(path.name))


def _lock_of_writers(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def check_archive(path: Path) -> None:
    """Read a ZIP file, and compare what is in it with its checksums.

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


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to fill, which becomes `folder` when all went well.

    A lock beside it is held, and goes with the process: what can be locked is
    what a process that was killed has left, and is removed first. Where there
    are no locks, it stays.

    Args:
        folder: Where it is to appear. Its parent must exist.

    Yields:
        A folder beside it, whose name is no number.

    Raises:
        OSError: If there is a folder with files in its place by then.
    """
    for lock in folder.parent.glob(
        f"{glob.escape(folder.name)}.*{_PARTIAL}.lock"
    ):
        with contextlib.suppress(OSError), locked(lock):
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
    partial = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}{_PARTIAL}")
    with contextlib.ExitStack() as held:
        with contextlib.suppress(NoLocksError):
            lock = partial.with_name(f"{partial.name}.lock")
            held.enter_context(locked(lock, wait=True))
        partial.mkdir()
        held.callback(shutil.rmtree, partial, ignore_errors=True)
        yield partial
        for path in (*partial.rglob("*"), partial):
            _on_disk(path)
        with contextlib.suppress(OSError):  # Windows replaces no empty folder
            folder.rmdir()
        partial.rename(folder)
        _on_disk(folder.parent)


def _on_disk(path: Path) -> None:
    """Wait until a file, or the list of a folder's files, is on the disk.

    A name that is there before its content would be that of an empty file, if
    the power fails.
    """
    if _is_windows() and path.is_dir():
        return
    # Windows writes out only what could be changed.
    number = os.open(path, os.O_RDWR if _is_windows() else os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        # Some file systems over a network cannot do it for folders.
        refused = error.errno in (errno.EINVAL, errno.ENOTSUP)
        if not (refused and path.is_dir()):
            raise
    finally:
        os.close(number)


class NoLocksError(OSError):
    """A file system that cannot lock files."""


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a lock, for as long as the process lives.

    Args:
        path: The file to lock. It is made for it, and removed with the lock;
            only a process that was killed leaves it, unlocked.
        wait: Wait for another process that holds the lock.

    Raises:
        BlockingIOError: If another process holds it, and this one is not to
            wait.
        NoLocksError: If the file system cannot lock files.
        OSError: If the file cannot be made.
    """
    number = _lock(path, wait)
    try:
        yield
    finally:
        # Before it is unlocked, or it could be that of the next process;
        # Windows removes no open file, nor one that the next has opened.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(number)
        if _is_windows():
            with contextlib.suppress(OSError):
                path.unlink()


def _lock(path: Path, wait: bool) -> int:
    """Open and lock a file; the number of the open file."""
    from filelock import lock_descriptor

    while True:
        with contextlib.ExitStack() as stack:
            number = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            stack.callback(os.close, number)
            try:
                held = lock_descriptor(number, blocking=wait)
            except OSError as error:
                path.unlink(missing_ok=True)
                raise NoLocksError(
                    error.errno, error.strerror, str(path)
                ) from error
            if not held:
                raise BlockingIOError(
                    errno.EWOULDBLOCK, "in use by another process", str(path)
                )
            # Who held it has removed it, and another may have made it anew.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(number), path.stat()):
                    stack.pop_all()
                    return number


def is_uri(path: str | Path) -> bool:
    """Tell whether a path is the URI of an object store."""
    return "://" in str(path)


def joined(folder: Path | str, name: str) -> Path | str:
    """Return the path or URI of something in a folder."""
    if not is_uri(folder):
        return Path(folder, name)
    found = urlsplit(str(folder))
    return found._replace(path=f"{found.path.rstrip('/')}/{name}").geturl()


def folder_of(path: str) -> Path | str:
    """Return the path or URI of the folder that something is in."""
    if not is_uri(path):
        return Path(path).parent
    found = urlsplit(path)
    return found._replace(path=found.path.rpartition("/")[0]).geturl()
