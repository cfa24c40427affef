"""`kill -9` at any moment: nothing is lost, and no file is broken."""

import functools
import os
import random
import shutil
import signal
import time

import numpy as np
import pandas as pd
import pytest

from keras_pep.lab.run import RunDirectory
from tests.commands import Command, leave_graphs_alone
from tests.lab.run.results import without_times

pytestmark = pytest.mark.slow

PREPARES = "cache/*"
# Files by whose writing it is known what a run does, in the order in which it
# does it. It is killed soon after each of them has changed.
MOMENTS = (
    PREPARES,
    *("run/checkpoint.npz", "run/dense.keras"),
    *("run/checkpoint.npz", "run/*.ticket.npz"),  # searches
    *("run/budget-*.keras", "run/magnitude-*.npz"),  # retrains
    "run/metrics.json",
    *("run/*report.html", "saved_models/run/*"),  # report, export
)
# Each run is killed at every moment: ten kills, or as many as are asked for.
RUNS = max(1, int(os.environ.get("KERAS_PEP_KILLS", "10")) // len(MOMENTS))


def test_killed_at_every_moment(tmp_path):
    """Each run ends as one that was never killed."""
    moments = random.Random(0)
    command = functools.partial(Command, before=leave_graphs_alone)
    whole = command(folder(tmp_path / "whole"), *TRAIN)
    for number in range(RUNS):
        killed = folder(tmp_path / str(number))
        for pattern in MOMENTS:
            if pattern == PREPARES:
                shutil.rmtree(killed / "cache", ignore_errors=True)
            process = command(killed, *command_for(killed))
            before = state(killed, pattern)
            while state(killed, pattern) <= before:
                assert process.is_alive(), f"over before {pattern}"
                time.sleep(0.001)
            if pattern != PREPARES:  # which takes hundredths of a second
                time.sleep(moments.choice([0, moments.uniform(0, 0.1)]))
            process.kill()
            process.join()
            assert process.exitcode == -signal.SIGKILL
            every_file_is_whole(killed / "run")
        process = command(killed, *command_for(killed))
        process.join()
        whole.join()
        assert (process.exitcode, whole.exitcode) == (0, 0)
        assert results(killed) == results(tmp_path / "whole")
        assert names(killed / "run") == names(tmp_path / "whole" / "run")
        exports = tmp_path / "whole/saved_models/run/1"
        for version in (killed / "saved_models/run").iterdir():
            assert names(version) == names(exports)


TRAIN = (
    *("train", "--dataset", "clicks.csv", "--label", "clicked"),
    *("--embedding-dim", "8", "--batch-size", "64", "--min-count", "1"),
    *("--max-epochs", "2", "--search-epochs", "3", "--sparsity", "0.8"),
    *("--compare", "magnitude", "--quiet", "--export"),
    *("--cache-dir", "cache", "--run-dir", "run"),
)


def command_for(folder):
    """What one would do who finds a run like this."""
    if (folder / "run" / "config.json").exists():
        return "train", "--resume", "run", "--quiet"
    return *TRAIN, "--force"


def folder(path):
    """One with data."""
    path.mkdir()
    values = np.random.default_rng(0).integers(0, [20, 15, 5], (3000, 3))
    clicked = (values.sum(axis=1) % 3 == 0).astype(int)
    (path / "clicks.csv").write_text(
        "user,item,hour,clicked\n"
        + "".join(
            f"u{u},i{i},h{h},{y}\n"
            for (u, i, h), y in zip(values, clicked, strict=True)
        )
    )
    return path


def state(folder, pattern):
    """Which files there are, and the last time that one was written."""
    times = set()
    for path in folder.glob(pattern):
        try:
            times.add((path.stat().st_mtime_ns, path.name))
        except FileNotFoundError:
            continue
    return max(times, default=(0, ""))


def results(folder):
    """What a run has come to, wherever and whenever it was."""
    metrics = RunDirectory(folder / "run").read_json("metrics.json")
    for entry in metrics["budgets"]:
        if "export" in entry:
            # Killed between its export and its note, it is exported again.
            del entry["export"]["path"]
            # Names of what was built before differ within the graph.
            del entry["export"]["files_bytes"]
    return without_times(metrics)


def names(folder):
    return {str(path.relative_to(folder)) for path in files_in(folder)}


def files_in(folder):
    """All but events, which every process has a file for."""
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and "tfevents" not in path.name
    ]


def every_file_is_whole(folder):
    """All that is there can be read."""
    if not folder.exists():
        return
    directory = RunDirectory(folder)
    for path in files_in(folder):
        if path.name.startswith("."):  # unfinished, or a lock
            continue
        if path.suffix == ".json":
            directory.read_json(path.name)
        elif path.suffix == ".keras":
            directory.load_model(path.stem)
        elif path.name == "checkpoint.npz":
            directory.read_checkpoint()
        elif path.suffix == ".npz":
            kind, budget = path.name.split(".")[0].rsplit("-", 1)
            directory.load_ticket(int(budget), kind)
        elif path.name == "counts.npy":
            assert directory.read_counts().size
        elif path.name == "seen.parquet":
            assert len(pd.read_parquet(directory.read_seen()))
        elif path.name == "kept.csv":
            assert len(directory.read_kept())
        elif path.name == "report.html":
            assert path.read_text().endswith("</html>\n")
        else:
            assert path.name == "history.csv"
            assert directory.read_history()
