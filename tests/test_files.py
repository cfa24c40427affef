import contextlib
import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import filelock
import pytest

from keras_pep.files import (
    NoLocksError,
    locked,
    remove_partials_unless_written,
    whole,
    whole_folder,
)
from tests.backends import python


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.keras"
    with whole(path) as partial:
        partial.write_text("new")
        assert not path.exists()
        assert partial.suffix == ".keras"
    assert path.read_text() == "new"

    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            fail(path, error)
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def fail(path, error):
    with whole(path) as partial:
        partial.write_text("half")
        raise error


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "1"
    with whole_folder(path) as partial:
        (partial / "a").write_text("new")
        assert not path.exists()
        assert not partial.name.isdecimal()
    assert (path / "a").read_text() == "new"

    with pytest.raises(OSError, match="not empty"), whole_folder(path) as other:
        (other / "b").write_text("half")
    with pytest.raises(ValueError, match="wrong"):
        fail_folder(tmp_path / "2")
    assert [each.name for each in tmp_path.iterdir()] == ["1"]
    assert [each.name for each in path.iterdir()] == ["a"]


def fail_folder(path):
    with whole_folder(path) as partial:
        (partial / "b").write_text("half")
        raise ValueError("wrong")


KILLED = """
import os, pathlib, signal, sys
from keras_pep.files import whole_folder
with whole_folder(pathlib.Path(sys.argv[1])) as partial:
    (partial / "half").write_text("")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_has_left_is_removed(tmp_path):
    path = tmp_path / "1"
    env = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    python("-c", KILLED, path, check=False, env=env)
    lock, remains = sorted(tmp_path.iterdir(), key=lambda path: path.is_dir())
    assert (remains / "half").exists()
    with whole_folder(path) as partial:
        assert not remains.exists()
        assert not lock.exists()
        with whole_folder(path) as other:  # another is at work: not removed
            assert partial.exists()
            (other / "a").write_text("")
        (path / "a").unlink()
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_being_written_is_not_taken_for_remains(tmp_path):
    path = tmp_path / "page.html"
    remains = tmp_path / ".partial-1-page.html"
    other = tmp_path / ".partial-1-other-page.html"
    for each in (remains, other):
        each.write_text("half")
    with whole(path, alone=True) as partial:
        assert not remains.exists()
        partial.write_text("new")
        remove_partials_unless_written(path)
        assert partial.exists()
    assert path.read_text() == "new"
    remains.write_text("half")
    remove_partials_unless_written(path)
    assert {*tmp_path.iterdir()} == {path, other}


HOLDS = """
import filelock, os, sys, time
number = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
assert filelock.lock_descriptor(number, blocking=False)
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


@contextlib.contextmanager
def held_elsewhere(path, seconds):
    """Another process holds a lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, path, str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout.readline() == b"held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_lock_goes_with_its_process(tmp_path):
    path = tmp_path / "lock"
    with held_elsewhere(path, 600) as process:
        with pytest.raises(BlockingIOError, match="another process"):
            held(path)
        process.kill()
        process.wait()
        assert path.exists()
        with locked(path):
            pass
    assert not path.exists()
    with held_elsewhere(path, 0.3):
        began = time.monotonic()
        with locked(path, wait=True):
            assert time.monotonic() - began > 0.1
            with pytest.raises(BlockingIOError):
                held(path)
    assert not path.exists()


def held(path):
    with locked(path):
        pass


def test_a_lock_that_is_removed_meanwhile_is_none(tmp_path, monkeypatch):
    """Who waited has a file that the next process knows nothing of."""
    path, tries = tmp_path / "lock", []
    lock = filelock.lock_descriptor

    def removed_first(number, **settings):
        if not tries:
            path.unlink()
        tries.append(number)
        return lock(number, **settings)

    monkeypatch.setattr("filelock.lock_descriptor", removed_first)
    with locked(path):
        assert len(tries) == 2
        with pytest.raises(BlockingIOError):
            held(path)


def test_one_of_many_threads_has_the_lock(tmp_path):
    path, inside, most = tmp_path / "lock", [], []

    def work(number):
        for _ in range(50):
            with locked(path, wait=True):
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 200
    assert max(most) == 1


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_files_are_written_where_there_are_no_locks(
    tmp_path, monkeypatch, number
):
    def no_locks(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("filelock.lock_descriptor", no_locks)
    with pytest.raises(NoLocksError, match=os.strerror(number)):
        held(tmp_path / "lock")
    remains = tmp_path / ".partial-1-page.html"
    remains.write_text("half")  # or it is just being written
    remove_partials_unless_written(tmp_path / "page.html")
    with whole(tmp_path / "page.html", alone=True) as partial:
        partial.write_text("new")
    with whole_folder(tmp_path / "1") as folder:
        (folder / "a").write_text("new")
    assert (tmp_path / "page.html").read_text() == "new"
    assert [path.name for path in (tmp_path / "1").iterdir()] == ["a"]
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"1", "page.html", remains.name}


def test_nothing_gets_its_name_before_it_is_on_the_disk(tmp_path, monkeypatch):
    done = []
    fsync = os.fsync

    def recorded(number):
        done.append(str(Path(f"/proc/self/fd/{number}").readlink()))
        fsync(number)

    monkeypatch.setattr(os, "fsync", recorded)
    with whole(tmp_path / "a.json") as partial:
        partial.write_text("new")
    assert done == [str(partial), str(tmp_path)]

    done.clear()
    with whole_folder(tmp_path / "1") as partial:
        (partial / "b").mkdir()
        (partial / "b" / "c").write_text("new")
    *inside, last = done
    assert sorted(inside) == sorted(
        str(path) for path in (partial, partial / "b", partial / "b" / "c")
    )
    assert last == str(tmp_path)
