"""Runs that several processes train together."""

import functools
import json
import subprocess
import time

import numpy as np
import pytest

from keras_pep.lab.run import RunDirectory
from keras_pep.lab.run.directory import Stage
from keras_pep.lab.run.workers import check_tf_config
from keras_pep.pruning import Ticket
from tests.commands import Command
from tests.lab.cli.test_cli import COMMAND, invoke
from tests.workers import environments

SETTINGS = (
    *("train", "--dataset", "clicks.csv", "--label", "clicked", "--quiet"),
    *("--embedding-dim", "8", "--batch-size", "128", "--min-count", "1"),
    *("--optimizer", "lazy-adam", "--learning-rate", "0.02"),
    *("--no-baseline", "--search-epochs", "5", "--retrain-epochs", "2"),
    *("--budget", "300", "--linear", "pep", "--cache-dir", "cache"),
)
WORKERS = ("--distribute", "multi-worker")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One with data: who likes what is learned by pairs."""
    path = tmp_path_factory.mktemp("workers")
    values = np.random.default_rng(0).integers(0, [60, 40, 5], (6000, 3))
    odd = values[:, :2].sum(axis=1) % 2
    flipped = np.random.default_rng(1).random(len(values)) < 0.1
    (path / "clicks.csv").write_text(
        "user,item,hour,clicked\n"
        + "".join(
            f"u{u},i{i},h{h},{y}\n"
            for (u, i, h), y in zip(values, odd ^ flipped, strict=True)
        )
    )
    return path


@functools.cache
def alone(folder):
    """The result of one process."""
    assert Command(folder, *SETTINGS, "--run-dir", "alone").ended()[0] == 0
    return result(folder, "alone")


def result(folder, name):
    """Of the only budget."""
    metrics = json.loads((folder / name / "metrics.json").read_text())
    (budget,) = metrics["budgets"]
    return budget


def together(folder, *arguments):
    """Two workers, of which the first is the chief.

    Not `Command`s: at its end a whole process waits for the other one.
    """
    return [
        subprocess.Popen(
            [COMMAND, *arguments],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for environment in environments()
    ]


def ended(process):
    """Its exit code, and what it has said."""
    output, errors = process.communicate(timeout=300)
    return process.returncode, output, errors


@pytest.mark.slow
def test_a_worker_killed_and_resumed_ends_as_one_process(folder):
    workers = together(folder, *SETTINGS, *WORKERS, "--run-dir", "run")
    history = folder / "run" / "history.csv"
    while not history.exists() or len(history.read_text().splitlines()) < 4:
        assert all(worker.poll() is None for worker in workers)
        time.sleep(0.01)
    workers[1].kill()
    code, output, errors = ended(workers[0])
    assert (code, output) == (1, "")
    assert errors == (
        "Error: Another worker has ended or cannot be reached: start all of "
        "them again with keras-pep train --resume run\n"
    )
    ended(workers[1])
    assert not (folder / "run" / "metrics.json").exists()

    workers = together(folder, "train", "--resume", "run", "--quiet")
    (code, output, errors), follower = map(ended, workers)
    assert (code, errors) == (0, "")
    assert "run directory: run" in output
    assert follower == (0, "", "")

    one, two = alone(folder), result(folder, "run")
    assert one["validation"]["auc"] > 0.7  # it has learned something
    assert two["validation"]["auc"] == pytest.approx(
        one["validation"]["auc"], abs=0.0005
    )
    assert two["embedding_parameters"] == pytest.approx(
        one["embedding_parameters"], rel=0.01
    )
    masks = [
        Ticket.load(folder / name / "budget-300.ticket.npz")
        .tables["embedding"]
        .mask()
        for name in ("alone", "run")
    ]
    # Of entries that are about as large as one another, other ones may stay.
    assert (masks[0] != masks[1]).sum() <= 6
    # Begun twice, and by the chief alone.
    events = list((folder / "run" / "logs" / "search").iterdir())
    assert len(events) == 2
    names = {path.name for path in (folder / "alone").iterdir()}
    assert {path.name for path in (folder / "run").iterdir()} == names


def test_followers_write_nothing(tmp_path):
    (tmp_path / "metrics.json").write_text("of the chief")
    (tmp_path / "dense.stage.json").write_text("of the chief")
    (tmp_path / ".partial-1-dense.keras").write_text("of the chief")
    before = sorted(tmp_path.iterdir())
    follower = RunDirectory(tmp_path, writes=False)
    with follower.lock():
        assert sorted(tmp_path.iterdir()) == before
        follower.create(force=False)
        follower.delete_outputs()
        follower.remove_partial_files()
        for name in vars(RunDirectory):
            if name.startswith("write_"):
                named = {"write_json": [{}], "write_stage": [Stage()]}
                getattr(follower, name)(None, *named.get(name, []))
        follower.save_ticket(Ticket({}, 1, 1))
        assert follower.save_model("dense", None) == 0
        follower.finish({})
        follower.remove_checkpoint()
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ("", "it is not set"),
        ("{", "Expecting"),
        ("[]", "it has no `cluster`"),
        ({"cluster": {"ps": ["a:1", "b:1"]}}, "cannot be a 'ps'"),
        ({"cluster": {"worker": "a:1,b:1"}}, "not a list of host:port"),
        ({"cluster": {"worker": ["a:1", "b"]}}, "not a list of host:port"),
        ({"cluster": {"worker": ["a:1", "a:1"]}}, "two or more different"),
        ({"cluster": {"chief": ["a:1", "b:1"]}}, "more than one `chief`"),
        ({"cluster": {"worker": ["a:1", "b:1"]}}, "`task` has no `type`"),
        (
            {
                "cluster": {"worker": ["a:1", "b:1"]},
                "task": {"type": "worker", "index": 2},
            },
            "from 0 to 1, found 2",
        ),
    ],
)
def test_a_wrong_tf_config_is_told_of(content, wrong):
    text = content if isinstance(content, str) else json.dumps(content)
    with pytest.raises(ValueError, match="TF_CONFIG must say") as caught:
        check_tf_config({"TF_CONFIG": text})
    assert wrong in str(caught.value)


def test_a_chief_and_a_worker_are_fine():
    cluster = {"chief": ["a:1"], "worker": ["b:1"]}
    task = {"type": "chief", "index": 0}
    check_tf_config(
        {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}
    )


def test_usage_of_workers(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{}")
    result = invoke("train", *WORKERS, "--run-dir", "run")
    assert result.exit_code == 2
    assert "Invalid value for --distribute: " in result.output
    monkeypatch.setenv("TF_CONFIG", environments()[0]["TF_CONFIG"])
    result = invoke("train", *WORKERS)
    assert result.exit_code == 2
    assert "Invalid value for --run-dir: " in result.output


def have_two_devices():
    import tensorflow as tf

    two = [tf.config.LogicalDeviceConfiguration()] * 2
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, two)


@pytest.mark.slow
def test_two_devices_train_as_one(folder):
    arguments = (*SETTINGS, "--distribute", "mirrored", "--run-dir", "mirrored")
    mirrored = Command(folder, *arguments, before=have_two_devices)
    assert mirrored.ended()[0] == 0
    one, two = alone(folder), result(folder, "mirrored")
    assert two["validation"]["auc"] == pytest.approx(
        one["validation"]["auc"], abs=0.0005
    )
    assert two["embedding_parameters"] == one["embedding_parameters"]
    config = json.loads((folder / "mirrored" / "config.json").read_text())
    assert (config["workers"], config["replicas"]) == (1, 2)
