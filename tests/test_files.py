import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_pep.files import locked, remove_unlocked, whole, whole_folder


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
    subprocess.run(
        [sys.executable, "-c", KILLED, path],
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        check=False,
    )
    (remains,) = tmp_path.iterdir()
    assert (remains / "half").exists()
    with whole_folder(path) as partial:
        assert not remains.exists()
        with whole_folder(path) as other:  # another is at work: not removed
            assert partial.exists()
            (other / "a").write_text("")
        (path / "a").unlink()
        path.rmdir()
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_being_written_is_not_taken_for_remains(tmp_path):
    paths = [tmp_path / name for name in ("remains", "gone", "written")]
    for path in (paths[0], paths[2]):
        path.write_text("half")
    with locked(paths[2]):
        remove_unlocked(paths)
    assert list(tmp_path.iterdir()) == [paths[2]]


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
