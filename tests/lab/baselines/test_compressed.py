"""Each method against a small implementation in NumPy of its own."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_pep.lab.baselines import (
    COMPRESSED,
    BudgetTooSmallError,
    HotRowsEmbedding,
)
from keras_pep.lab.baselines.hot_rows import width_of
from keras_pep.lab.baselines.k_means import k_means, nearest_of
from keras_pep.lab.baselines.stored import rounded
from keras_pep.lab.settings import RIVALS
from keras_pep.models import FM
from tests.test_docs import blocks

FEATURES, DIM, PARAMETERS, SEED = 50, 6, 400, 3
ROWS = np.array([[0, 7, 49], [7, 7, 13]])


def hashes(row, count, below, first=0):
    """The high bits of an odd number times the id, and another."""
    random = np.random.default_rng([SEED, first])
    drawn = random.integers(2**32, size=(2, count), dtype=np.uint32)
    bits = min(len(f"{below:b}") + 8, 31)
    return [
        ((a | 1) * int(row) + b) % 2**32 // 2 ** (32 - bits) % below
        for a, b in drawn.T.tolist()
    ]


def hashing(row, table):
    return table[hashes(row, 1, len(table))[0]]


def compositional(row, tables):
    books = np.split(tables, 4)
    parts = zip(books, hashes(row, 4, len(books[0])), strict=True)
    return np.concatenate([book[h] for book, h in parts])[:DIM]


def qr(row, remainders, quotients):
    n = len(remainders)
    return remainders[row % n] * quotients[row // n]


def hash_embedding(row, table):
    found = np.zeros(DIM)
    places = hashes(row, 4, len(table)), hashes(row, 4, table.size, 4)
    for h, w in zip(*places, strict=True):
        found += table.ravel()[w] * table[h]
    return found / 4 * np.sqrt(4 * DIM)


def robe(row, array):
    places = [h + j for h in hashes(row, 4, array.size) for j in range(2)]
    return array[np.array(places[:DIM]) % array.size]


def tensor_train(row, first, *cores):
    base, columns, _ = first.shape
    digits = [row // base**n % base for n in range(4)]
    found = []
    for column in range(DIM):
        places = [column // columns ** (3 - n) % columns for n in range(4)]
        vector = first[digits[0], places[0]]
        for core, digit, place in zip(
            cores, digits[1:], places[1:], strict=True
        ):
            vector = vector @ core[digit, place]
        found.append(vector)
    return np.array(found)


def dhe(row, *weights):
    kernels = weights[: len(weights) // 2]
    values = np.array(hashes(row, len(kernels[0]), 2**31 - 1)) / 2**30 - 1
    values /= np.sqrt(len(values))
    biases = weights[len(kernels) :]
    for n, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        values = (np.maximum(values, 0) if n else values) @ kernel + bias
    return values


def low_rank(row, table, projection, bias):
    return table[row] @ projection + bias


def cce(row, centroids, helpers, near, shared):
    parts = centroids[near[row]] + helpers[shared[row]]
    return parts.ravel()[:DIM]


REFERENCES = {
    "hashing": hashing,
    "compositional": compositional,
    "qr": qr,
    "hash-embedding": hash_embedding,
    "robe": robe,
    "tensor-train": tensor_train,
    "dhe": dhe,
    "low-rank": low_rank,
    "cce": cce,
}
# Trained parameters, counted by hand, of at most 400: 66 rows of 6; 4 x 50
# rows of 2; 7 + 8 rows of 6; ... ; 3 x 2 x (2 r + 2 r^2) for rank 5; (u + 1)
# (2 u + 6) for 12 units; 50 x 7 + 7 x 6 + 6; 2 x 4 x 25 rows of 2.
TRAINED = {
    "hashing": 66 * 6,
    "compositional": 400,
    "qr": (49 + 2) * 6,
    "hash-embedding": 66 * 6,
    "robe": 400,
    "tensor-train": 3 * 2 * (2 * 5 + 2 * 25),
    "dhe": 13 * (2 * 12 + 6),
    "low-rank": 50 * 7 + 7 * 6 + 6,
    "cce": 400,
}


def made(name, parameters=PARAMETERS):
    keras.utils.set_random_seed(0)
    layer = COMPRESSED[name](FEATURES, DIM, parameters, seed=SEED, name=name)
    layer.build()
    return layer


def weights_of(layer):
    return [ops.convert_to_numpy(w) for w in layer.weights]


def test_every_method_has_a_reference():
    assert REFERENCES.keys() == COMPRESSED.keys() == TRAINED.keys()


@pytest.mark.parametrize("name", REFERENCES)
def test_vectors_are_those_of_the_reference(name):
    layer = made(name)
    weights = [w.astype(np.float64) for w in weights_of(layer)]
    if name == "cce":
        weights[2:] = weights_of(layer)[2:]
    expected = [[REFERENCES[name](r, *weights) for r in x] for x in ROWS]
    found = ops.convert_to_numpy(layer(ROWS))
    # Sums of at most 25 float32 products of numbers below 1.
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("name", REFERENCES)
def test_parameters_are_those_counted(name):
    layer = made(name)
    trained = sum(int(np.prod(w.shape)) for w in layer.trainable_weights)
    assert trained == TRAINED[name] <= PARAMETERS
    pointers = 2 * 4 * FEATURES if name == "cce" else 0
    assert layer.count_params() == trained + pointers


def step_of(name, rate=0.1):
    """How one step of SGD on the sum of squares moves each weight."""
    layer = made(name)
    pairs = keras.Input((3,), dtype="int32")
    model = keras.Model(pairs, layer(pairs))
    before = weights_of(layer)
    model.compile(keras.optimizers.SGD(rate), "mse")
    model.fit(ROWS, np.zeros((2, 3, DIM)), batch_size=2, verbose=0)
    return [
        (old - new) / rate
        for old, new in zip(before, weights_of(layer), strict=True)
    ]


@pytest.mark.parametrize("name", REFERENCES)
def test_gradients_are_those_of_the_reference(name):
    """Compute the gradient of the mean square by finite differences."""
    found = step_of(name)
    weights = [w.astype(np.float64) for w in weights_of(made(name))]
    pointers = weights_of(made(name))[2:] if name == "cce" else []

    def loss():
        own = [*weights[:2], *pointers] if pointers else weights
        return np.mean(
            [np.square(REFERENCES[name](r, *own)) for r in ROWS.ravel()]
        )

    random = np.random.default_rng(0)
    for place, weight in enumerate(weights[: 2 if pointers else None]):
        moved = np.flatnonzero(found[place])
        assert moved.size
        others = random.choice(weight.size, 3)
        for entry in {*random.choice(moved, 5).tolist(), *others.tolist()}:
            old, step = weight.flat[entry], 1e-5
            weight.flat[entry] = old + step
            above = loss()
            weight.flat[entry] = old - step
            below = loss()
            weight.flat[entry] = old
            expected = (above - below) / (2 * step)
            # The step is a difference of float32 numbers below 2.
            assert found[place].flat[entry] == pytest.approx(
                expected, rel=1e-3, abs=5e-6
            )


@pytest.mark.parametrize("name", REFERENCES)
def test_it_is_saved_and_loaded_in_a_model(tmp_path, name):
    layer = COMPRESSED[name](12, 8, 96, name="embedding")
    model = FM((4, 3, 5), 8, layer)
    ids = np.array([[0, 2, 4], [3, 0, 1]])
    expected = ops.convert_to_numpy(model(ids))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(ops.convert_to_numpy(loaded(ids)), expected)


@pytest.mark.parametrize("name", sorted({*REFERENCES} - {"robe"}))
def test_too_few_parameters_are_refused(name):
    with pytest.raises(BudgetTooSmallError, match="more than 5 parameters"):
        made(name, 5)


def test_hashes_spread_ids_evenly():
    """Chi-squared of 10,000 ids in 100 and 128 cells, by four functions."""
    for cells in (100, 128):
        found = made("robe")._hashes(np.arange(10_000), 4, cells)
        found = ops.convert_to_numpy(found)
        mean = 10_000 / cells
        for column in found.T:
            counts = np.bincount(column, minlength=cells)
            # Five standard deviations above what is expected by chance.
            found_by_chance = cells + 5 * np.sqrt(2 * cells)
            assert np.square(counts - mean).sum() / mean < found_by_chance
        # Two of them agree on as many cells as chance has it, and do not put
        # the same ids together.
        agree = np.mean(found[:, 0] == found[:, 1])
        assert 0.5 / cells < agree < 1.5 / cells
        together = found[:, 0] == found[0, 0]
        again = np.mean(found[together, 1] == found[0, 1])
        assert again < 5 / cells


def test_clustering_finds_groups_and_keeps_vectors():
    """Rows that are alike share a centroid; helpers begin with the rest."""
    layer = COMPRESSED["cce"](40, 8, 160, name="cce")  # 10 rows a codebook
    layer.build()
    before = ops.convert_to_numpy(layer(np.arange(40)))
    layer.cluster()
    after = ops.convert_to_numpy(layer(np.arange(40)))
    spread = np.square(before - before.mean(axis=0)).mean()
    assert np.square(after - before).mean() < 0.6 * spread
    centers = np.array([[0.0, 0], [9, 0], [0, 9]])
    points = np.repeat(centers, 20, axis=0)
    points += np.random.default_rng(0).normal(0, 0.1, points.shape)
    found = k_means(points, 12, np.random.default_rng(1))
    nearest = found[nearest_of(points, found)]
    assert np.abs(nearest - points).max() < 0.5


def test_clustering_follows_the_first_epochs():
    layer = COMPRESSED["cce"](12, 8, 96, name="embedding")
    model = FM((4, 3, 5), 8, layer)
    model.compile("sgd", "mse")
    before = weights_of(layer)[2]
    ids = np.zeros((4, 3), "int32")
    for epochs in (1, 2):
        model.fit(
            *(ids, np.zeros((4, 1))),
            epochs=epochs,
            callbacks=layer.callbacks(),
            verbose=0,
        )
        same = np.array_equal(weights_of(layer)[2], before)
        assert same == (epochs == 1)


def test_values_are_rounded_to_8_and_4_bits():
    rows = np.array([[1.0, -0.5, 0.004], [0.07, 0.0, -0.02]], np.float32)
    expected = np.rint(rows * 127) / 127  # one scale
    np.testing.assert_allclose(rounded(rows, 8), expected, atol=1e-7)
    # 7 is the largest: scales of 1 / 7 and 0.01, in float16.
    expected = np.array([[7, -4, 0], [7, 0, -2]]) * [[1 / 7], [0.01]]
    np.testing.assert_allclose(rounded(rows, 4), expected, rtol=5e-4)
    assert not rounded(np.zeros((2, 3), np.float32), 4).any()


@pytest.mark.parametrize(
    ("name", "in_8_bits", "in_4"),
    [
        # 66 rows of 6, one scale; 3 bytes and 2 of the scale for each row.
        ("hashing", 66 * 6 + 4, 66 * 5),
        # 50 rows of 7, 7 of 6 and one of 6; half of that and 58 scales.
        ("low-rank", 350 + 4 + 42 + 4 + 6 + 4, 175 + 21 + 3 + 2 * 58),
        # 2 codebooks of 100 rows of 2, and 2 x 4 pointers of a byte each.
        ("cce", 400 + 8 + 400, 200 + 400 + 400),
    ],
)
def test_bytes_are_counted(name, in_8_bits, in_4):
    layer = made(name)
    assert layer.stored_bytes(8) == in_8_bits
    assert layer.stored_bytes(4) == in_4
    pointers = 400 if name == "cce" else 0
    assert layer.stored_bytes() == 4 * TRAINED[name] + pointers
    before = weights_of(layer)
    layer.round_to(8)
    for old, new in zip(before[:2], weights_of(layer)[:2], strict=True):
        np.testing.assert_allclose(
            new, rounded(old.reshape(1, -1), 8).reshape(old.shape), atol=1e-7
        )


def test_hot_rows_are_their_own_and_cold_ones_shared():
    counts = np.array([*range(40, 0, -1), 99, *[0] * 19])
    layer = HotRowsEmbedding(
        60, 2, 2 * 10, counts=counts, field_sizes=(40, 20), name="hot"
    )
    vectors = ops.convert_to_numpy(layer(np.arange(60)))
    table = ops.convert_to_numpy(layer.table)
    # 10 rows: 5 hot, 35 cold in 3 and 19 in 2 rows; a sixth has no room.
    hot = [40, 0, 1, 2, 3]
    np.testing.assert_array_equal(vectors[hot], table[:5])
    for first, rows in ((4, 5), (20, 6), (36, 7), (41, 8), (57, 9)):
        shared = vectors[first : min(first + 16, 40 if first < 40 else 60)]
        np.testing.assert_array_equal(
            shared, np.broadcast_to(table[rows], shared.shape)
        )
    assert layer.stored_bytes(8) == 2 * 10 + 4
    assert width_of(1600, 64, 100 * 64) == 32  # 200 rows, 100 for cold ones
    with pytest.raises(BudgetTooSmallError):
        HotRowsEmbedding(60, 2, 2 * 3, counts=counts).build()


def test_the_python_of_the_docs_runs():
    (block,) = blocks(Path("docs/rivals.md").read_text())
    names = {}
    exec(compile(block, "rivals.md", "exec"), names)
    # First-order weights and a bias besides.
    assert names["model"].count_params() == 16_384 + 9_708 + 1
    assert {f"`{name}`" for name in RIVALS} <= {
        *re.findall("`[a-z-]+`", Path("docs/rivals.md").read_text())
    }
