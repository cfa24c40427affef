"""Interrupted anywhere, a run ends as it would have."""

import itertools
import json
import logging
import resource
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest

from keras_pep.data import DataError
from keras_pep.lab.run import Config, RunDirectory, RunError, resume, train
from keras_pep.lab.run.checkpoint import Saved
from tests.commands import Command
from tests.few_rows import have_rows
from tests.lab.run.results import without_times
from tests.lab.run.test_killed import folder
from tests.said import saying

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("eager")]

SETTINGS = {
    "budget": {
        "model": "deepfm",
        "linear": "pep",
        "sparsity": (0.8,),
        "compare": ("uniform", "magnitude"),
        **{"max_epochs": 2, "search_epochs": 2},
    },
    "paper": {
        "search": "paper",
        "granularity": "global",
        "threshold_init": -2.0,
        "sparsity": (0.1,),
        "l2": 1e-3,
        "start": "reinit",
    },
    "lazy": {
        "optimizer": "lazy_adam",
        "start": "finetune",
        "sparsity": (0.8, 0.9),
        **{"max_epochs": 2, "search_epochs": 2},
    },
}
SHORT = {
    "search": "budget",
    "batch_size": 512,
    "max_epochs": 3,
    "search_epochs": 3,
    "retrain_epochs": 2,
    "embedding_dim": 8,
    "learning_rate": 0.01,
}


@pytest.fixture(autouse=True)
def _few_rows(monkeypatch):
    have_rows(monkeypatch, 4000)


def files_of(directory):
    return sorted(path.name for path in directory.path.iterdir())


class InterruptedHereError(KeyboardInterrupt):
    pass


def interrupting(lines):
    """Says so many lines, and then is interrupted."""
    left = iter(range(lines))

    def say(line):
        if next(left, None) is None:
            raise InterruptedHereError(line)

    return say


@pytest.mark.parametrize("kind", SETTINGS)
def test_the_same_metrics_bit_for_bit(kind, tmp_path):
    """Interrupted in epochs of all stages, before they are written down."""
    config = Config(**{**SHORT, **SETTINGS[kind]})
    whole = RunDirectory(tmp_path / "whole")
    said = []
    with saying(said.append):
        expected = train(config, whole)
    assert expected["budgets"], "nothing to compare"

    broken = RunDirectory(tmp_path / "broken")
    with pytest.raises(InterruptedHereError), saying(interrupting(2)):
        train(config, broken)
    for lines in itertools.count(2):
        assert "metrics.json" not in files_of(broken)
        try:
            with saying(interrupting(7 + lines % 6)):
                found = resume(broken)
        except InterruptedHereError:
            assert lines < 2 * len(said), "it does not come nearer to an end"
            continue
        break
    assert without_times(found) == without_times(expected)
    assert files_of(broken) == files_of(whole)
    for stage in ("dense", "search"):
        rows = [r for r in whole.read_history() if r["stage"] == stage]
        again = [r for r in broken.read_history() if r["stage"] == stage]
        assert without_times(again) == without_times(rows)
    kept = [directory.read_kept() for directory in (whole, broken)]
    assert kept[0].equals(kept[1])
    for name in files_of(whole):
        if name.endswith(".keras"):
            models = [
                RunDirectory(d.path).load_model(name.removesuffix(".keras"))
                for d in (whole, broken)
            ]
            for a, b in zip(*(m.get_weights() for m in models), strict=True):
                np.testing.assert_array_equal(a, b)


def test_a_finished_run_is_not_run_again(tmp_path, caplog):
    directory = RunDirectory(tmp_path / "run")
    config = Config(**{**SHORT, "search_epochs": 1}, sparsity=(0.5,))
    config = replace(config, baseline=False, retrain_epochs=1)
    metrics = train(config, directory)
    caplog.set_level(logging.INFO, "keras_pep")
    assert resume(directory) == json.loads(json.dumps(metrics))
    assert caplog.messages == [f"{directory.path} is finished."]


def test_what_is_known_is_there_before_the_end(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    said = []

    def say(line):
        said.append(line)
        if sum("epoch" in line for line in said) == 3 + 2:  # two of the search
            raise InterruptedHereError(line)

    with pytest.raises(InterruptedHereError), saying(say):
        train(Config(**SHORT, patience=9), directory)
    rows = [(row["stage"], row["epoch"]) for row in directory.read_history()]
    assert rows == [("dense", 1), ("dense", 2), ("dense", 3), ("search", 1)]
    assert set(directory.read_kept()["stage"]) == {"search"}
    (dense,) = directory.path.glob("*.stage.json")  # the stage that is done
    assert dense.name == "dense.stage.json"
    stage = directory.read_stages()["dense"]
    assert (stage.number, len(stage.history), stage.kept) == (0, 3, [])
    assert stage.result["steps"] == stage.history[-1]["step"]
    lines = [line for line in said if "epoch" in line or "AUC" in line]
    assert len(lines) == 5 + 2
    assert all(len(line) <= 80 for line in lines), lines


def test_data_that_have_moved_are_found_where_they_are(tmp_path):
    """They are known by their fingerprint."""
    first = folder(tmp_path / "first") / "clicks.csv"
    config = Config(
        dataset=str(first),
        label="clicked",
        cache_dir=str(tmp_path / "cache"),
        sparsity=(0.5,),
        **SHORT,
    )
    directory = RunDirectory(tmp_path / "run")
    with pytest.raises(InterruptedHereError), saying(interrupting(3)):
        train(config, directory)
    (tmp_path / "moved").mkdir()
    moved = first.rename(tmp_path / "moved" / "clicks.csv")
    with pytest.raises(DataError, match=r"clicks\.csv"):
        resume(directory)
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "clicks.csv"
    other.write_text(moved.read_text().replace("u1,", "u2,"))
    for path, error in ((other, "are not those"), (moved, None)):
        with pytest.raises(RunError, match=error) if error else nullcontext():
            metrics = resume(directory, moved={"dataset": str(path)})
    assert len(metrics["budgets"]) == 1


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ("nothing", "config.json not found"),
        ("data", "are not those"),
        ("checkpoint", "checkpoint.npz is damaged"),
        ("config", "it has changed since"),
        ("ticket", "is not a keras-pep ticket"),
    ],
)
def test_what_cannot_be_resumed_says_why(harm, message, tmp_path, monkeypatch):
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    lines = 8 if harm == "ticket" else 3
    if harm != "nothing":
        with pytest.raises(InterruptedHereError), saying(interrupting(lines)):
            train(Config(**SHORT), directory, force=True)
    if harm == "data":
        monkeypatch.setattr(
            "keras_pep.data.dataset.Dataset.fingerprint", lambda _: "other"
        )
    elif harm == "checkpoint":
        damage(directory.path / "checkpoint.npz")
    elif harm == "config":
        path = directory.path / "config.json"
        path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    elif harm == "ticket":
        damage(next(directory.path.glob("*.ticket.npz")))
    with pytest.raises(RunError, match=message):
        resume(directory)


def damage(path):
    content = bytearray(path.read_bytes())
    middle = slice(len(content) // 2, len(content) // 2 + 64)
    content[middle] = bytes(byte ^ 255 for byte in content[middle])
    path.write_bytes(content)


def test_a_model_that_diverges_in_its_last_step_is_no_result(tmp_path):
    """Its loss is still that from before the step."""
    config = Config(
        **{**SHORT, "batch_size": 5000, "max_epochs": 1, "learning_rate": 1e30}
    )
    directory = RunDirectory(tmp_path / "run")
    with pytest.raises(
        ValueError, match=r"dense: the validation loss is \w+ in epoch 1\."
    ):
        train(config, directory)
    assert "checkpoint.npz" not in files_of(directory)
    assert "dense.keras" not in files_of(directory)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    made = []
    for seed in (0, 1):
        directory = RunDirectory(tmp_path / str(seed))
        with pytest.raises(InterruptedHereError), saying(interrupting(3)):
            train(Config(**SHORT, seed=seed), directory)
        made.append(directory)
    content = (made[1].path / "checkpoint.npz").read_bytes()
    (made[0].path / "checkpoint.npz").write_bytes(content)
    with pytest.raises(RunError, match="it is of another run"):
        resume(made[0])


def test_a_loss_that_is_no_number_ends_the_run(tmp_path):
    config = Config(**{**SHORT, "learning_rate": 1e25})
    directory = RunDirectory(tmp_path / "run")
    with pytest.raises(
        ValueError, match=r"dense: the loss is \w+ in epoch \d, step \d+"
    ):
        train(config, directory)


def saved_training():
    random = np.random.default_rng(0)
    return Saved(
        stage="dense",
        epoch=2,
        ended=False,
        parts=[{"step": 3}],
        variables=[random.normal(size=(4, 3)).astype(np.float32)],
        optimizer=[random.normal(size=5), np.int64(3)],
        best=[],
    )


def test_every_flipped_byte_of_a_checkpoint_is_noticed(tmp_path):
    """Or is of no importance: then what is read is what was written."""
    path = tmp_path / "checkpoint.npz"
    saved_training().write(path)
    content = path.read_bytes()
    whole = Saved.read(path)
    refused = 0
    for place in range(len(content)):
        path.write_bytes(
            content[:place]
            + bytes([content[place] ^ (1 << place % 8)])
            + content[place + 1 :]
        )
        try:
            found = Saved.read(path)
        except ValueError:
            refused += 1
            continue
        assert (found.stage, found.epoch, found.parts) == (
            *(whole.stage, whole.epoch),
            whole.parts,
        )
        for name in ("variables", "optimizer", "best"):
            for a, b in zip(
                getattr(found, name), getattr(whole, name), strict=True
            ):
                np.testing.assert_array_equal(a, b)
    assert refused > len(content) / 2
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"."):
            Saved.read(path)


def have_a_limit():
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))


def test_a_full_disk_loses_nothing(tmp_path):
    """Files may not be larger than 20 kB, then they may."""
    data = folder(tmp_path / "data")
    settings = [
        *("train", "--dataset", data / "clicks.csv", "--label", "clicked"),
        *("--embedding-dim", "64", "--min-count", "1", "--max-epochs", "2"),
        *("--search-epochs", "2", "--sparsity", "0.8", "--no-baseline"),
        *("--cache-dir", tmp_path / "cache", "--run-dir", tmp_path / "run"),
    ]
    code, _, errors = Command(tmp_path, *settings, before=have_a_limit).ended()
    assert code == 1
    assert errors == (
        f"Error: {tmp_path}/run/checkpoint.npz cannot be written: File too "
        "large. Go on, when it can be, with keras-pep train --resume "
        f"{tmp_path}/run\n"
    )
    metrics = resume(RunDirectory(tmp_path / "run"))
    assert len(metrics["budgets"]) == 1
