import json

import numpy as np
import pytest

import keras_pep
from keras_pep.pruning.ticket import other_weights, values_of
from keras_pep.sparse import SparseTable


@pytest.fixture
def ticket():
    random = np.random.default_rng(0)
    table = random.normal(size=(7, 5)).astype("float32")
    return keras_pep.Ticket(
        tables={
            "user/table": SparseTable.from_dense(table, table > 0.5),
            "item": SparseTable.from_dense(-table, table < 0),
        },
        weights=(np.ones((2, 3), "float32"), np.zeros(1, "float32")),
        budget=25,
        step=1234,
    )


def test_saved_and_loaded_is_the_same(ticket, tmp_path):
    ticket.save(tmp_path / "a.ticket.npz")
    loaded = keras_pep.Ticket.load(tmp_path / "a.ticket.npz")
    assert (loaded.budget, loaded.step) == (25, 1234)
    assert loaded.sparsity == ticket.sparsity
    assert list(loaded.tables) == ["user/table", "item"]
    for name, table in ticket.tables.items():
        other = loaded.tables[name]
        np.testing.assert_array_equal(other.values, table.values)
        np.testing.assert_array_equal(other.mask(), table.mask())
    for ours, theirs in zip(ticket.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_weights_that_are_all_alike_take_no_memory(tmp_path):
    """First-order weights are zero at first, and as many as features."""
    model = keras_pep.models.FM([50, 50], 2, "pep")
    model.build()
    weights = values_of(other_weights(model, ["embedding"]))
    ticket = keras_pep.Ticket.from_model(model, weights, budget=200, step=1)
    assert ticket.weights[0].shape == (100, 1)
    ticket.save(tmp_path / "a.ticket.npz")
    for each in (ticket, keras_pep.Ticket.load(tmp_path / "a.ticket.npz")):
        for values in (each.weights[0], each.learned_weights[0]):
            assert values.strides == (0, 0)
            np.testing.assert_array_equal(values, np.zeros((100, 1)))
    model.first_order.kernel.assign_add(np.eye(100, 1))
    (values, *_) = values_of(other_weights(model, ["embedding"]))
    np.testing.assert_array_equal(values, np.eye(100, 1))


def test_the_file_needs_no_pickle_and_saving_leaves_only_it(ticket, tmp_path):
    ticket.save(tmp_path / "a.ticket.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.ticket.npz"]
    with np.load(tmp_path / "a.ticket.npz", allow_pickle=False) as arrays:
        assert json.loads(str(arrays["header"]))["budget"] == 25
        assert arrays["0.columns"].dtype == np.uint8


def test_a_file_that_is_no_ticket(ticket, tmp_path):
    path = tmp_path / "a.ticket.npz"
    with pytest.raises(FileNotFoundError):
        keras_pep.Ticket.load(path)
    ticket.save(path)
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.ticket\.npz is not a"):
            keras_pep.Ticket.load(path)


def test_contradictory_contents_are_refused(ticket, tmp_path):
    path = tmp_path / "a.ticket.npz"
    ticket.save(path)
    with np.load(path) as arrays:
        content = dict(arrays)
    content["0.columns"] = content["0.columns"] + np.uint8(5)  # out of range
    np.savez(path, **content)
    with pytest.raises(ValueError, match="do not describe a table"):
        keras_pep.Ticket.load(path)


def test_pickled_objects_are_not_loaded(tmp_path):
    path = tmp_path / "a.ticket.npz"
    np.savez(path, header=np.array([{"format": 1}], dtype=object))
    with pytest.raises(ValueError, match="is not a keras-pep ticket"):
        keras_pep.Ticket.load(path)


def test_a_damaged_file_is_refused_or_read_right(ticket, tmp_path):
    """Every tenth byte is flipped, one at a time."""
    path = tmp_path / "a.ticket.npz"
    ticket.save(path)
    content = path.read_bytes()
    refused = accepted = 0
    for place in range(0, len(content), 10):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            loaded = keras_pep.Ticket.load(path)
        except ValueError as error:
            refused += "a.ticket.npz is not a" in str(error)
        else:  # a byte that means nothing, such as a date in the archive
            assert (loaded.budget, loaded.step) == (25, 1234)
            for name, table in loaded.tables.items():
                known = ticket.tables[name]
                np.testing.assert_array_equal(table.values, known.values)
                np.testing.assert_array_equal(table.mask(), known.mask())
            accepted += 1
    assert refused + accepted == len(range(0, len(content), 10))
    assert refused > 0.5 * len(content) / 10
