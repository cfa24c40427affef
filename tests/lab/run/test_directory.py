"""One process at a time writes to a run directory."""

import errno
import os
import threading

import pytest

from keras_pep.lab.run import RunDirectory, RunError


@pytest.fixture
def directory(tmp_path):
    return RunDirectory(tmp_path)


def enter(directory, warn=pytest.fail):
    with directory.mine(warn):
        pass


def test_one_at_a_time(directory):
    assert directory.in_use() is False
    with directory.mine():
        assert directory.in_use() is True
        with pytest.raises(RunError, match="in use by another process"):
            enter(directory)
    assert directory.in_use() is False
    assert list(directory.path.iterdir()) == []


def test_who_looks_keeps_nobody_out(directory):
    """However often, and though a killed process has left its lock."""
    over = threading.Event()

    def look():
        while not over.is_set():
            assert directory.in_use() is not None

    looking = [threading.Thread(target=look) for _ in range(3)]
    for thread in looking:
        thread.start()
    try:
        for _ in range(30):
            (directory.path / ".lock").touch()
            enter(directory)
    finally:
        over.set()
        for thread in looking:
            thread.join()
    assert list(directory.path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_it_goes_on_and_says_so(directory, monkeypatch, number):
    def no_locks(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("filelock.lock_descriptor", no_locks)
    said = []
    with directory.mine(said.append):
        directory.write_json("metrics.json", {"dense": None})
    assert said == [
        f"{directory.path}: the file system cannot lock files "
        f"({os.strerror(number)}). Make sure that no other process writes "
        "there."
    ]
    assert directory.read_json("metrics.json") == {"dense": None}
    assert [path.name for path in directory.path.iterdir()] == ["metrics.json"]
    (directory.path / ".lock").touch()
    assert directory.in_use() is None


def test_what_keeps_it_out_is_named(directory, monkeypatch):
    with pytest.raises(RunError, match="no such folder"):
        enter(RunDirectory(directory.path / "nowhere"))

    def read_only(path, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(RunError, match="cannot be written: Read-only file sys"):
        enter(directory)
    monkeypatch.undo()
    (directory.path / ".lock").touch()
    monkeypatch.setattr(os, "open", read_only)
    assert directory.in_use() is None


def test_only_what_the_run_itself_writes_is_swept(directory):
    """A person may write something there, too."""
    for name in ("dense.keras", "budget-30.keras", "report.html", "scores.csv"):
        (directory.path / f".partial-1-{name}").write_text("half")
    directory.sweep()
    assert [path.name for path in directory.path.iterdir()] == [
        ".partial-1-scores.csv"
    ]
