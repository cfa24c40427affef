"""Files that have changed are refused, or what has changed does not matter."""

import random
from pathlib import Path

import numpy as np
import pytest

from keras_pep import data
from keras_pep.data.dataset import DataError
from keras_pep.lab.run import Config, RunDirectory, RunError, train
from tests.backends import eagerly
from tests.lab.run.test_resume import InterruptedHereError, interrupting
from tests.said import saying

CASES = 300  # of each of seven files


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that was interrupted in its last stage, so that all is there."""
    folder = tmp_path_factory.mktemp("damage")
    directory = RunDirectory(folder / "run")
    values = np.random.default_rng(0).integers(0, [20, 15, 5], (900, 3))
    rows = [
        f"u{u},i{i},{h},{(u + i + h) % 3 // 2}" for u, i, h in values.tolist()
    ]
    path = folder / "clicks.csv"
    path.write_text("\n".join(["user,item,hour,clicked", *rows]))
    config = Config(
        dataset=str(path),
        label="clicked",
        min_count=1,
        cache_dir=str(folder / "cache"),
        search="budget",
        embedding_dim=4,
        batch_size=64,
        max_epochs=1,
        search_epochs=2,
        retrain_epochs=2,
        sparsity=(0.5, 0.8),
    )
    interrupted = pytest.raises(InterruptedHereError)
    with eagerly(), interrupted, saying(interrupting(9)):
        train(config, directory)
    return directory, config


def damaged(content, number):
    """The content with a bit flipped, cut short, emptied, or other bytes."""
    choices = random.Random(number)
    place = choices.randrange(len(content))
    kind = number % 10
    if kind == 0:
        return content[:place] if number else b""
    if kind == 1:
        count = choices.randint(1, 64)
        noise = bytes(choices.randrange(256) for _ in range(count))
        return content[:place] + noise + content[place + count :]
    flipped = content[place] ^ (1 << choices.randrange(8))
    return content[:place] + bytes([flipped]) + content[place + 1 :]


def assert_never_wrong(path, read, errors, named=None):
    """Reads damaged files; what can still be read is what was written.

    Errors name the file, or the folder that it is part of.
    """
    content = path.read_bytes()
    expected = read()
    messages = []
    try:
        for number in range(CASES):
            path.write_bytes(damaged(content, number))
            try:
                found = read()
            except errors as error:
                messages.append(str(error))
            else:
                _assert_equal(found, expected)
    finally:
        path.write_bytes(content)
    assert len(messages) > CASES / 2
    assert all((named or path.name) in message for message in messages)


def _assert_equal(found, expected):
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            _assert_equal(found[name], value)
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for pair in zip(found, expected, strict=True):
            _assert_equal(*pair)
    elif isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(found, expected)
    else:
        assert found == expected


def test_json(run):
    directory, _ = run
    for name in ("config.json", "vocabularies.json", "dense.stage.json"):
        assert_never_wrong(
            directory.path / name,
            lambda name=name: directory.read_json(name),
            RunError,
        )


def test_a_ticket(run):
    directory, _ = run
    path = min(directory.path.glob("*.ticket.npz"))
    budget = int(path.name.split(".")[0].split("-")[1])

    def read():
        ticket = directory.load_ticket(budget)
        (table,) = ticket.tables.values()
        return [
            *(table.values, table.columns, table.row_splits),
            *(ticket.weights, ticket.budget, ticket.step),
            *ticket.learned_values.values(),
        ]

    assert_never_wrong(path, read, RunError)


def test_a_checkpoint_of_an_earlier_version(run, monkeypatch):
    """Its optimizer may remember other things, in arrays of the same shapes."""
    directory, _ = run
    path = directory.path / "checkpoint.npz"
    content, saved = path.read_bytes(), directory.read_checkpoint()
    with monkeypatch.context() as earlier:
        earlier.setattr("keras_pep.lab.run.checkpoint._FORMAT", 1)
        saved.write(path)
    with pytest.raises(RunError, match=r"its format is 1, not 3\. Remove it"):
        directory.read_checkpoint()
    path.write_bytes(content)


def test_a_checkpoint(run):
    directory, _ = run

    def read():
        found = directory.read_checkpoint()
        return [found.stage, found.epoch, found.variables, found.optimizer]

    assert_never_wrong(directory.path / "checkpoint.npz", read, RunError)


def test_a_model(run):
    directory, _ = run
    ids = np.zeros((1, 3), np.int32)

    def read():
        return directory.load_model("dense").predict(ids, verbose=0)

    assert_never_wrong(directory.path / "dense.keras", read, RunError)


def test_prepared_data(run):
    _, config = run
    folder = next(p.parent for p in _prepared(config))
    for path in (folder / "dataset.json", folder / "train" / "1.npy"):

        def read():
            found = data.stored.open_folder(folder, in_memory=2**30)
            return [found.train.ids, found.train.labels, found.fingerprint()]

        assert_never_wrong(path, read, DataError, folder.name)


def _prepared(config):
    return Path(config.cache_dir).rglob("dataset.json")
