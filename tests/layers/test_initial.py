import keras
import numpy as np
import pytest

import keras_pep
from keras_pep import blocks
from keras_pep.layers import initial

ROWS, COLUMNS = 1000, 8

KINDS = [
    keras.initializers.RandomUniform(-0.5, 0.25, seed=1),
    keras.initializers.RandomNormal(0.25, 0.5, seed=2),
    keras.initializers.TruncatedNormal(0.0, 0.5, seed=3),
    keras.initializers.GlorotUniform(seed=4),
    keras.initializers.HeNormal(seed=5),
    keras.initializers.VarianceScaling(
        2.0, "fan_out", "untruncated_normal", seed=6
    ),
    keras.initializers.Constant(0.5),
]


@pytest.fixture
def small_blocks(monkeypatch):
    """What is done to large tables is done to small ones: 300 rows at once."""
    monkeypatch.setattr(blocks, "ENTRIES_AT_ONCE", 75 * COLUMNS)
    monkeypatch.setattr(initial, "_ENTRIES_DRAWN", 75 * COLUMNS)
    monkeypatch.setattr(initial, "LARGE", 3000)


def layer_of(initializer, rows=ROWS):
    layer = keras_pep.PEPEmbedding(
        rows, COLUMNS, embeddings_initializer=initializer
    )
    layer.build()
    return layer


@pytest.mark.usefixtures("small_blocks", "either_way")
@pytest.mark.parametrize("initializer", KINDS)
def test_blocks_alone_are_the_whole_table(initializer):
    layer = layer_of(initializer)
    table = layer.embeddings.numpy()
    made = list(layer.initial_blocks())
    assert [block.shape[0] for block in made] == [75] * 13 + [25]
    np.testing.assert_array_equal(np.concatenate(made), table)
    np.testing.assert_array_equal(layer.initial_embeddings(), table)
    if initializer is not KINDS[-1]:
        assert np.unique(table).size > 0.99 * table.size  # no block twice


@pytest.mark.requires_tensorflow
@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("initializer", KINDS)
def test_they_have_the_distribution_of_a_table_drawn_whole(
    initializer,
):
    rows = 20_000
    table = layer_of(initializer, rows).embeddings.numpy()
    whole = keras.ops.convert_to_numpy(initializer((rows, COLUMNS)))
    assert table.min() >= whole.min() - 0.1 * whole.std() or not whole.std()
    # 160,000 entries: quantiles within 0.05 are known to 0.01 deviations.
    shares = np.linspace(0.05, 0.95, 19)
    np.testing.assert_allclose(
        np.quantile(table, shares),
        np.quantile(whole, shares),
        atol=0.03 * whole.std(),
    )
    np.testing.assert_allclose(table.std(), whole.std(), rtol=0.01)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("rows", [1, 70, 299, 301, 2000])
def test_blocks_to_read_are_not_part_of_the_numbers(rows, monkeypatch):
    layer = layer_of(KINDS[0])
    table = layer.embeddings.numpy()
    monkeypatch.setattr(blocks, "ENTRIES_AT_ONCE", rows * COLUMNS)
    made = list(layer.initial_blocks())
    assert {len(block) for block in made[:-1]} <= {rows}
    np.testing.assert_array_equal(np.concatenate(made), table)


def test_a_table_of_16_million_entries_is_drawn_as_ever():
    initializer = keras.initializers.GlorotUniform(seed=4)
    layer = keras_pep.PEPEmbedding(
        2**16, 2**8, embeddings_initializer=initializer
    )
    expected = initializer((2**16, 2**8))
    np.testing.assert_array_equal(layer.initial_embeddings(), expected)
    layer.build()
    np.testing.assert_array_equal(layer.embeddings.numpy(), expected)


def test_a_larger_one_is_not_drawn_whole(monkeypatch):
    drawn = []
    call = keras.initializers.RandomUniform.__call__

    class Watched(keras.initializers.RandomUniform):
        def __call__(self, shape, dtype=None):
            drawn.append(shape)
            return call(self, shape, dtype)

    monkeypatch.setattr(
        initial, "_INDEPENDENT", {*initial._INDEPENDENT, Watched.__call__}
    )
    shape = (2**16 + 1, 2**8)
    layer = keras_pep.PEPEmbedding(
        *shape, embeddings_initializer=Watched(seed=1)
    )
    layer.build()
    assert drawn == [*[(2**14, 2**8)] * 4, (1, 2**8)]


class Counting(keras.initializers.Initializer):
    """Each row is told from the others."""

    def __call__(self, shape, dtype=None):
        size = int(np.prod(shape))
        return keras.ops.reshape(keras.ops.arange(size, dtype=dtype), shape)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    "initializer",
    [
        Counting(),
        keras.initializers.Orthogonal(seed=1),
        keras.initializers.Constant(np.ones((ROWS, COLUMNS), np.float32) / 3),
    ],
)
def test_what_depends_on_the_whole_is_drawn_whole(initializer):
    layer = layer_of(initializer)
    expected = initializer((ROWS, COLUMNS), "float32")
    np.testing.assert_array_equal(layer.embeddings.numpy(), expected)
    np.testing.assert_array_equal(layer.initial_embeddings(), expected)


@pytest.mark.usefixtures("small_blocks")
def test_another_seed_gives_another_table():
    tables = [
        layer_of(keras.initializers.RandomUniform(seed=seed)).embeddings.numpy()
        for seed in (0, 1, 2**40, -7)
    ]
    layer = layer_of(keras.initializers.RandomUniform(seed=1))
    tables.append(np.concatenate(list(layer.drawn_blocks())))
    # Some of 40,000 of the 2**23 values there are come twice.
    assert np.unique(tables).size > 0.99 * np.size(tables)


@pytest.mark.usefixtures("small_blocks")
def test_the_layer_is_saved_with_the_initializer_it_was_given(
    tmp_path,
):
    layer = layer_of("glorot_uniform")  # seed not given
    assert isinstance(
        layer.embeddings_initializer, keras.initializers.GlorotUniform
    )
    model = keras.Sequential([keras.Input((2,), dtype="int32"), layer])
    expected = layer.embeddings.numpy()
    layer.embeddings.assign(expected + 1.0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").layers[0]
    assert loaded.get_config() == layer.get_config()
    np.testing.assert_array_equal(loaded.initial_embeddings(), expected)


def pinned_numbers():
    """Some numbers of three tables of 2**18 + 1 rows of 64.

    Of the uniform one: in the first and last row, and in those at both sides of
    the border between two draws, at row 65,536. Of the others the first.
    """
    rows = 2**18 + 1
    uniform, *others = (
        keras_pep.PEPEmbedding(rows, 64, embeddings_initializer=initializer)
        for initializer in (KINDS[0], KINDS[1], KINDS[3])
    )
    table = uniform.initial_embeddings()
    return [
        *table[[0, 65_535, 65_536, rows - 1], [0, 63, 0, 63]].tolist(),
        *(float(next(layer.initial_blocks())[0, 0]) for layer in others),
    ]


# They may never change: those of saved models would change with them.
PINNED = {
    "tensorflow": [
        *(-0.498749197, 0.171344757, -0.0307710469, -0.111257166),
        *(0.796121597, 0.00459811045),
    ],
    "jax": [
        *(-0.305444539, -0.103921503, -0.053301692, 0.0622187257),
        *(1.08287621, 0.000965697167),
    ],
    "torch": [
        *(0.136577785, 0.0980460048, -0.323398441, -0.102052867),
        *(0.0552440882, -0.00449062977),
    ],
}


@pytest.mark.requires_tensorflow
def test_numbers_of_large_tables_are_what_they_were():
    assert pinned_numbers() == pytest.approx(PINNED["tensorflow"], rel=1e-6)
