"""What Windows lacks, and macOS in part, is not needed."""

import os
import sys

import pytest

from tests.backends import python

# `filelock` has locks of Windows' own, which those of this system stand for.
LACKS = """
import errno, os, pathlib, signal, sys
import click, filelock, h5py, keras, numpy, pandas, plotly.offline
import pyarrow.parquet
import tensorflow

for name in ("fcntl", "resource", "termios", "tty", "pty", "pwd", "grp",
             "syslog"):
    sys.modules[name] = None  # cannot be imported
for module, names in {
    os: (
        "O_DIRECTORY O_NOFOLLOW O_CLOEXEC O_NONBLOCK O_NOCTTY O_SYNC fork "
        "forkpty getuid geteuid getgid getegid getgroups getpgid getsid "
        "setsid uname statvfs fchmod fchown chown lchown sched_getaffinity "
        "sched_setaffinity sysconf posix_fadvise posix_fallocate pread "
        "pwrite mkfifo killpg nice getloadavg sendfile sync fdatasync"
    ),
    signal: "SIGKILL SIGHUP SIGUSR1 SIGUSR2 SIGALRM SIGCHLD pause alarm",
}.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
open_, close, unlink = os.open, os.close, os.unlink
rename, fsync = os.rename, os.fsync
opened = {}

def error(number, path):
    return OSError(number, os.strerror(number), str(path))

def windows_open(path, flags, *more, **settings):
    if os.path.isdir(path):
        raise error(errno.EACCES, path)
    number = open_(path, flags, *more, **settings)
    opened[number] = str(path), flags & (os.O_RDWR | os.O_WRONLY)
    return number

def windows_close(number):
    opened.pop(number, None)
    close(number)

def windows_fsync(number):
    if number in opened and not opened[number][1]:
        raise error(errno.EBADF, number)
    fsync(number)

def windows_unlink(path, **settings):
    if str(path) in {name for name, _ in opened.values()}:
        raise error(errno.EACCES, path)
    unlink(path, **settings)

def windows_rename(source, target, **settings):
    if os.path.exists(target):
        raise error(errno.EEXIST, target)
    rename(source, target, **settings)

def windows_replace(source, target, **settings):
    if str(target) in busy:  # read by another process, for a moment
        busy.remove(str(target))
        raise error(errno.EACCES, target)
    replace(source, target, **settings)

busy, replace, os.replace = [], os.replace, windows_replace
os.open, os.close, os.unlink = windows_open, windows_close, windows_unlink
os.rename, os.fsync = windows_rename, windows_fsync

folder = pathlib.Path(sys.argv[1])
"""

USES = """
import numpy as np
import keras_pep.lab.benchmark, keras_pep.lab.report, keras_pep.lab.run
from keras_pep.files import whole_folder
from tests.runs import ticket, write_run

ticket(20, 35).save(folder / "20.npz")
read = keras_pep.Ticket.load(folder / "20.npz")
np.testing.assert_array_equal(
    read.tables["embedding"].mask(), ticket(20, 35).tables["embedding"].mask()
)
assert read.budget == read.embedding_parameters == 20

write_run(folder / "run")
directory = keras_pep.lab.run.RunDirectory(folder / "run")
with directory.lock():
    assert directory.in_use()
    (folder / "run" / ".partial-1-dense.keras").write_text("half")
    directory.remove_partial_files()
    busy.append(str(folder / "run" / "metrics.json"))
    directory.write_json("metrics.json", directory.read_json("metrics.json"))
    assert not busy
assert directory.load_ticket(60).budget == 60
assert not [*(folder / "run").glob(".*")]
text = keras_pep.lab.report.write_report(folder / "run").read_text("utf-8")
assert "magnitude 60" in text

(folder / "1").mkdir()  # empty, as somebody may make it
with whole_folder(folder / "1") as partial:
    (partial / "a").write_text("new")
assert (folder / "1" / "a").read_text() == "new"

import keras_pep.lab.cli.train
print(sorted(path.name for path in folder.iterdir()))
"""


@pytest.mark.slow
def test_it_is_imported_and_writes_files(tmp_path):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = python("-c", LACKS + USES, tmp_path, check=False, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['1', '20.npz', 'run']\n"
