import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_pep
from keras_pep.sparse import SparseTable
from keras_pep.thresholds import GRANULARITIES
from tests import reference

# TensorFlow's vectorized sigmoid rounds an entry by its place in memory: the
# same row may differ in its last bit, values being less than 1.
LAST_BIT = 1.2e-7

SIZES = (3, 2, 4)
ROWS, COLUMNS = sum(SIZES), 5


def layer_of(granularity, logit=-2.0, **kwargs):
    """A layer whose thresholds differ: about 0.12, table within 0.5."""
    layer = keras_pep.PEPEmbedding(
        ROWS,
        COLUMNS,
        granularity=granularity,
        field_sizes=SIZES,
        embeddings_initializer=keras.initializers.RandomUniform(
            -0.5, 0.5, seed=1
        ),
        **kwargs,
    )
    layer.build()
    noise = np.random.default_rng(2).normal(
        0, 0.3, layer.threshold_logits.shape
    )
    layer.threshold_logits.assign(logit + noise)
    return layer


def arrays(layer):
    return (
        layer.embeddings.numpy().astype(np.float64),
        layer.threshold_logits.numpy().astype(np.float64),
    )


@pytest.mark.parametrize(
    ("granularity", "shape"),
    [
        ("global", (1, 1)),
        ("dimension", (1, COLUMNS)),
        ("feature", (ROWS, 1)),
        ("feature_dimension", (ROWS, COLUMNS)),
        ("field", (3, 1)),
        ("field_dimension", (3, COLUMNS)),
    ],
)
def test_logits_have_the_shape_of_the_granularity(granularity, shape):
    assert layer_of(granularity).threshold_logits.shape == shape


def test_a_table_that_can_be_checked_by_hand():
    layer = keras_pep.PEPEmbedding(2, 3, threshold_init=0.0)
    layer.build()
    layer.embeddings.assign([[0.75, -0.75, 0.5], [0.1, 0.0, -2.0]])
    # sigmoid(0) = 0.5 is subtracted; what does not exceed it is zero.
    expected = [[0.25, -0.25, 0.0], [0.0, 0.0, -1.5]]
    np.testing.assert_allclose(layer(np.array([0, 1])), expected)
    np.testing.assert_allclose(layer.pruned_embeddings(), expected)
    assert layer.nonzero_parameters() == 3
    assert layer.sparsity() == 0.5
    assert layer.embedding_sizes().tolist() == [2, 1]
    assert layer.mask().tolist() == [[True, True, False], [False, False, True]]


@pytest.mark.requires_tensorflow
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_output_and_gradients_match_numpy(granularity):
    layer = layer_of(granularity)
    values, logits = arrays(layer)
    where = reference.alignment(granularity, ROWS, COLUMNS, SIZES)
    ids = np.array([[0, 3, 0, 8], [8, 8, 4, 1]])  # duplicates on purpose
    upstream = np.random.default_rng(3).normal(size=(*ids.shape, COLUMNS))

    with tf.GradientTape() as tape:
        output = layer(ids)
        loss = keras.ops.sum(output * upstream.astype("float32"))
    by_values, by_logits = (
        tf.convert_to_tensor(gradient)
        for gradient in tape.gradient(
            loss, [layer.embeddings.value, layer.threshold_logits.value]
        )
    )

    table = reference.thresholded(values, logits, where)
    assert 0.2 < np.mean(table == 0) < 0.5  # both branches are exercised
    summed = np.zeros((ROWS, COLUMNS))
    np.add.at(summed, ids, upstream)
    expected = reference.gradients(values, logits, where, summed)
    # float32 of numbers around 1.
    np.testing.assert_allclose(output, table[ids], atol=1e-6)
    np.testing.assert_allclose(by_values, expected[0], atol=1e-6)
    np.testing.assert_allclose(by_logits, expected[1], atol=1e-6)


@pytest.mark.requires_tensorflow
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_ten_steps_of_coupled_adam_match_numpy(granularity):
    layer = layer_of(granularity)
    values, logits = arrays(layer)
    where = reference.alignment(granularity, ROWS, COLUMNS, SIZES)
    variables = {"values": values, "logits": logits}
    optimizer = keras_pep.optimizers.AdamL2(0.01, l2=0.1, epsilon=1e-8)
    expected = reference.Adam(0.01, l2=0.1, epsilon=1e-8)
    weights = [layer.embeddings, layer.threshold_logits]
    random = np.random.default_rng(4)

    @tf.function  # as in `model.fit`, where gradients are sparse
    def step(ids, target):
        with tf.GradientTape() as tape:
            loss = 0.5 * keras.ops.sum((layer(ids) - target) ** 2)
        sparse = tape.gradient(loss, [w.value for w in weights])
        optimizer.apply(sparse, weights)

    for _ in range(10):
        ids = random.integers(0, ROWS, size=12)  # of 9: duplicates
        target = random.normal(size=(12, COLUMNS))
        table = reference.thresholded(values, logits, where)
        upstream = np.zeros((ROWS, COLUMNS))
        np.add.at(upstream, ids, table[ids] - target)
        by_values, by_logits = reference.gradients(
            values, logits, where, upstream
        )
        expected.update(variables, {"values": by_values, "logits": by_logits})
        step(tf.constant(ids), tf.constant(target, "float32"))

    # Ten steps of 0.01; float32 keeps seven digits of numbers around 1.
    np.testing.assert_allclose(layer.embeddings.numpy(), values, atol=1e-6)
    np.testing.assert_allclose(
        layer.threshold_logits.numpy(), logits, atol=1e-6
    )


def test_keras_adam_is_right_with_an_id_that_fills_the_batch():
    """One step of Adam moves by one learning rate, whatever the gradient."""
    layer = keras_pep.PEPEmbedding(3, 2)
    model = keras.Sequential([keras.Input((1,), dtype="int32"), layer])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    before = layer.embeddings.numpy()
    ids = np.full((100, 1), 1)
    model.fit(ids, np.ones((100, 1, 2)), batch_size=100, verbose=0)
    moved = layer.embeddings.numpy() - before
    np.testing.assert_allclose(moved[1], [0.01, 0.01], rtol=1e-4)
    assert not moved[[0, 2]].any()


@pytest.mark.parametrize(
    ("granularity", "structure"),
    [
        *((granularity, "free") for granularity in GRANULARITIES),
        *((owner, "prefix") for owner in ("global", "feature", "field")),
    ],
)
def test_the_clock_prunes_an_entry_when_its_lifetime_ends(
    granularity, structure
):
    layer = layer_of(granularity, logit=-9.0, structure=structure)
    lifetimes = layer.lifetimes()
    for clock in np.quantile(lifetimes, [0.11, 0.53, 0.91]):
        layer.clock.assign(clock)
        mask = layer.mask()
        np.testing.assert_array_equal(mask, lifetimes > clock)
        if structure == "prefix":
            assert (mask[:, 1:] <= mask[:, :-1]).all()
    assert type(layer).from_config(layer.get_config()).structure == structure


def test_lifetimes_by_hand():
    layer = keras_pep.PEPEmbedding(1, 4, threshold_init=0.0)
    layer.build()
    layer.embeddings.assign([[0.0, 0.5, -0.5 * np.e, 5.0]])
    expected = [[-np.inf, 0.0, 1.0, np.log(10.0)]]
    np.testing.assert_allclose(layer.lifetimes(), expected, atol=1e-6)


def test_a_threshold_too_small_for_a_sigmoid_still_has_a_lifetime():
    layer = keras_pep.PEPEmbedding(1, 1, threshold_init=-150.0)
    layer.build()
    layer.embeddings.assign([[1.0]])
    assert layer.lifetimes().tolist() == [[150.0]]
    assert layer.nonzero_parameters() == 1


def test_rewind_restores_initial_values_and_pruned_entries_stay_zero():
    layer = layer_of("feature_dimension")
    initial = layer.embeddings.numpy()
    mask = layer.mask()
    model = keras.Sequential([keras.Input((4,), dtype="int32"), layer])
    model.compile(keras_pep.optimizers.AdamL2(0.1), "mse")
    ids = np.random.default_rng(5).integers(0, ROWS, size=(64, 4))
    model.fit(ids, np.ones((64, 4, COLUMNS)), epochs=3, verbose=0)
    assert not np.array_equal(layer.embeddings.numpy(), initial)

    layer.assign_sparse(
        SparseTable.from_dense(layer.initial_embeddings(), mask)
    )
    assert layer.frozen
    np.testing.assert_array_equal(layer.embeddings.numpy(), initial * mask)
    np.testing.assert_array_equal(layer.pruned_embeddings(), initial * mask)

    model.compile(keras_pep.optimizers.AdamL2(0.1), "mse")
    model.fit(ids, np.ones((64, 4, COLUMNS)), epochs=3, verbose=0)
    table = layer.pruned_embeddings()
    assert not table[~mask].any()
    assert (table != initial)[mask].all()


def test_initial_values_survive_saving(tmp_path):
    layer = keras_pep.PEPEmbedding(ROWS, COLUMNS)  # seed not given
    model = keras.Sequential([keras.Input((2,), dtype="int32"), layer])
    initial = layer.embeddings.numpy()
    layer.embeddings.assign(initial + 1.0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").layers[0]
    np.testing.assert_array_equal(loaded.embeddings.numpy(), initial + 1.0)
    np.testing.assert_array_equal(loaded.initial_embeddings(), initial)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_saved_model_predicts_the_same(granularity, tmp_path):
    layer = layer_of(granularity)
    layer.clock.assign(0.25)
    model = keras.Sequential([keras.Input((4,), dtype="int32"), layer])
    ids = np.arange(8).reshape(2, 4)
    expected = model.predict(ids, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(ids, verbose=0), expected, atol=LAST_BIT
    )
    assert loaded.layers[0].get_config() == layer.get_config()


@pytest.mark.skip_on_torch("its types are its own")
def test_half_precision_output_full_precision_thresholds():
    layer = keras_pep.PEPEmbedding(ROWS, COLUMNS, dtype="mixed_float16")
    output = layer(np.arange(ROWS))
    assert output.dtype == tf.float16
    assert keras.backend.standardize_dtype(layer.embeddings.dtype) == "float32"
    # sigmoid(-15) = 3e-7 changes no float16, but must prune nothing either.
    np.testing.assert_allclose(output, layer.embeddings.numpy(), atol=2e-5)


def test_mask_zero():
    layer = keras_pep.PEPEmbedding(ROWS, COLUMNS, mask_zero=True)
    assert layer.compute_mask(np.array([[0, 2]])).numpy().tolist() == [
        [False, True]
    ]
    assert keras_pep.PEPEmbedding(9, 2).compute_mask(np.array([0])) is None
    inputs = keras.Input((4,), dtype="int32")
    outputs = keras.layers.GlobalAveragePooling1D()(layer(inputs))
    model = keras.Model(inputs, outputs)
    padded = model.predict(np.array([[3, 5, 0, 0]]), verbose=0)
    np.testing.assert_allclose(
        padded, layer.pruned_embeddings()[[3, 5]].mean(axis=0)[None], rtol=1e-6
    )


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 1, 3), (0, 3)])
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "float32"])
def test_ids_of_any_shape_and_type(shape, dtype):
    layer = layer_of("feature_dimension")
    ids = np.random.default_rng(6).integers(0, ROWS, size=shape).astype(dtype)
    output = layer(ids)
    assert (
        output.shape == (*shape, COLUMNS) == layer.compute_output_shape(shape)
    )
    table = layer.pruned_embeddings()
    np.testing.assert_allclose(output, table[ids.astype(int)], atol=LAST_BIT)


def test_symbolic_shape_is_known():
    output = keras_pep.PEPEmbedding(9, 4)(keras.Input((7,), dtype="int32"))
    assert output.shape == (None, 7, 4)


def test_whole_table_methods_work_in_blocks(monkeypatch):
    layer = layer_of("field_dimension")
    table, lifetimes = layer.pruned_embeddings(), layer.lifetimes()
    monkeypatch.setattr("keras_pep.blocks.ENTRIES_AT_ONCE", 2 * COLUMNS)
    np.testing.assert_allclose(layer.pruned_embeddings(), table, atol=LAST_BIT)
    np.testing.assert_allclose(layer.lifetimes(), lifetimes, rtol=1e-6)
    assert layer.nonzero_parameters() == np.count_nonzero(table)
    np.testing.assert_array_equal(
        layer.embedding_sizes(), np.count_nonzero(table, axis=1)
    )


def test_regularizer_and_constraint_act_on_the_table():
    layer = keras_pep.PEPEmbedding(
        3, 2, embeddings_regularizer="l2", embeddings_constraint="non_neg"
    )
    model = keras.Sequential([keras.Input((3,), dtype="int32"), layer])
    squares = (layer.embeddings.numpy() ** 2).sum()
    assert float(layer.losses[0]) == pytest.approx(0.01 * squares, rel=1e-5)
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.fit(np.array([[0, 1, 2]]), -np.ones((1, 3, 2)), verbose=0)
    assert (layer.embeddings.numpy() >= 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_dim": 0}, "input_dim"),
        ({"output_dim": 2.5}, "output_dim"),
        ({"input_dim": True}, "input_dim"),
        ({"granularity": "row"}, "granularity='row'"),
        ({"granularity": "field"}, "field_sizes=None"),
        ({"structure": "suffix"}, "structure='suffix'"),
        (
            {"structure": "prefix", "granularity": "dimension"},
            "that all columns share",
        ),
        ({"field_sizes": [4, 4]}, r"field_sizes=\[4, 4\]"),
        ({"threshold_init": float("nan")}, "threshold_init=nan"),
        (
            {
                "embeddings_initializer": keras.initializers.RandomNormal(
                    seed=keras.random.SeedGenerator(0)
                )
            },
            "SeedGenerator",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_pep.PEPEmbedding(**{"input_dim": 9, "output_dim": 4, **arguments})


def test_a_table_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(3, 2\).*\(2, 3\)"):
        keras_pep.PEPEmbedding(3, 2).assign_sparse(
            SparseTable.from_dense(np.ones((2, 3)))
        )


def test_a_frozen_table_is_saved_without_its_zeros(tmp_path):
    layer = keras_pep.PEPEmbedding(1000, 64)
    model = keras.Sequential([keras.Input((4,), dtype="int32"), layer])
    mask = np.zeros((1000, 64), dtype=bool)
    mask[::10, :5] = True  # 500 of 64,000
    model.save(tmp_path / "full.keras")
    layer.assign_sparse(
        SparseTable.from_dense(layer.initial_embeddings(), mask)
    )
    model.save(tmp_path / "small.keras")
    full, small = (
        (tmp_path / name).stat().st_size
        for name in ("full.keras", "small.keras")
    )
    # 5 bytes an entry and 4 a row, beside some 20 kB of structure.
    assert full > 250_000
    assert small < 40_000

    loaded = keras.saving.load_model(tmp_path / "small.keras")
    assert loaded.layers[0].frozen
    ids = np.arange(1000).reshape(250, 4)
    np.testing.assert_array_equal(
        loaded.predict(ids, verbose=0), model.predict(ids, verbose=0)
    )


def test_other_initial_values_are_drawn_by_another_seed():
    layer = keras_pep.PEPEmbedding(
        50, 8, embeddings_initializer=keras.initializers.RandomUniform(0, 1, 3)
    )
    drawn = np.concatenate(list(layer.drawn_blocks()))
    assert not np.isin(drawn, layer.initial_embeddings()).any()
    assert 0 <= drawn.min() < 0.1
    assert 0.9 < drawn.max() <= 1


def test_field_sizes_may_be_an_array():
    layer = keras_pep.PEPEmbedding(
        5, 2, granularity="field", field_sizes=np.array([2, 3])
    )
    assert layer.get_config()["field_sizes"] == [2, 3]


@pytest.mark.requires_tensorflow
def test_compiled_for_xla_it_computes_the_same():
    layer = layer_of("feature_dimension")
    ids = np.array([[0, 3, 0, 8], [8, 8, 4, 1]])
    compiled = tf.function(layer.call, jit_compile=True)
    np.testing.assert_allclose(
        compiled(tf.constant(ids)), layer(ids), atol=LAST_BIT
    )


PRETRAINED = np.random.default_rng(5).normal(size=(20, 4)).astype("float32")


@pytest.mark.parametrize("weights", [PRETRAINED, [PRETRAINED]])
def test_weights_are_the_initial_table(weights):
    layer = keras_pep.PEPEmbedding(20, 4, weights=weights)
    other = keras.layers.Embedding(20, 4, weights=weights)
    np.testing.assert_array_equal(layer.embeddings, other.embeddings)
    np.testing.assert_array_equal(layer.initial_embeddings(), PRETRAINED)
    assert float(layer.clock) == 0.0


def test_weights_are_copied():
    table = PRETRAINED.copy()
    layer = keras_pep.PEPEmbedding(20, 4, weights=table)
    table[:] = 0
    np.testing.assert_array_equal(layer.initial_embeddings(), PRETRAINED)


def searched(embedding):
    model = keras_pep.models.FM((12, 8), 4, embedding)
    model.build()
    model.compile(
        keras_pep.optimizers.LazyAdam(0.05),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    ids = np.random.default_rng(0).integers(0, 8, (320, 2))
    labels = (ids.sum(axis=1, keepdims=True) % 2).astype("float32")
    train = tf.data.Dataset.from_tensor_slices((ids, labels)).batch(32)
    return model, train


def test_tickets_rewind_to_given_weights(tmp_path):
    layer = keras_pep.PEPEmbedding(20, 4, weights=PRETRAINED, name="table")
    model, train = searched(layer)
    (ticket,) = keras_pep.search(model, train, budgets=[30], epochs=2)
    table, mask = (
        ticket.tables["table"].to_dense(),
        ticket.tables["table"].mask(),
    )
    assert 28 <= mask.sum() <= 30
    np.testing.assert_array_equal(table, np.where(mask, PRETRAINED, 0))
    assert (layer.embeddings.numpy() != PRETRAINED).any()
    # Loaded, it predicts the same, but does not know its initial values.
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(train, verbose=0), model.predict(train, verbose=0)
    )
    for rewind in (
        loaded.embedding.initial_embeddings,
        lambda: keras_pep.search(loaded, train, budgets=[30], epochs=1),
    ):
        with pytest.raises(ValueError, match="came from `weights`"):
            rewind()


def test_a_file_does_not_grow_by_given_weights(tmp_path):
    sizes = []
    for weights in (None, np.ones((5000, 16), "float32")):
        layer = keras_pep.PEPEmbedding(5000, 16, weights=weights)
        assert len(str(layer.get_config())) < 1000
        layer.build()
        model = keras.Sequential([keras.Input((1,), dtype="int32"), layer])
        model.save(tmp_path / "model.keras")
        sizes.append((tmp_path / "model.keras").stat().st_size)
    assert sizes[1] <= sizes[0] + 1000


def test_one_array_sets_the_table_alone():
    layer = keras_pep.PEPEmbedding(20, 4, threshold_init=-3.0)
    layer.build()
    layer.clock.assign(0.5)
    layer.set_weights([PRETRAINED])
    table, logits, clock = layer.get_weights()
    np.testing.assert_array_equal(table, PRETRAINED)
    np.testing.assert_array_equal(logits, np.full((), -3.0))
    assert clock == 0.5
    layer.set_weights([2 * PRETRAINED, logits, clock])  # all of them
    np.testing.assert_array_equal(layer.embeddings, 2 * PRETRAINED)


def test_weights_of_keras_embedding_are_loaded(tmp_path):
    dense, pep = (
        keras_pep.models.LogisticRegression((12, 8), embedding=kind)
        for kind in ("dense", "pep")
    )
    for model in (dense, pep):
        model.build()
    pep.embedding.clock.assign(0.5)
    dense.embedding.set_weights([PRETRAINED[:, :1]])
    dense.save_weights(tmp_path / "dense.weights.h5")
    pep.load_weights(tmp_path / "dense.weights.h5")
    table, logits, clock = pep.embedding.get_weights()
    np.testing.assert_array_equal(table, PRETRAINED[:, :1])
    assert (logits == -15).all()
    assert clock == 0.5


@pytest.mark.parametrize(
    "table", [PRETRAINED.T, PRETRAINED[:7], [[1.0], [2.0, 3.0]], "none"]
)
def test_errors_do_not_print_tables(table):
    layer = keras_pep.PEPEmbedding(20, 4)
    for give in (
        lambda: keras_pep.PEPEmbedding(20, 4, weights=table),
        lambda: layer.set_weights([table]),
    ):
        with pytest.raises(ValueError, match=r"Expected: .*\(20, 4\)") as error:
            give()
        assert len(str(error.value)) < 200


def test_the_length_of_the_input_is_ignored():
    with pytest.warns(UserWarning, match="`input_length` is ignored"):
        layer = keras_pep.PEPEmbedding(20, 4, input_length=5)
    assert layer(np.array([[5]])).shape == (1, 1, 4)


@pytest.mark.requires_tensorflow
@pytest.mark.parametrize("wrong", [2**32 + 1, -1, 3])
def test_a_64_bit_input_shows_ids_as_they_are(wrong):
    """With `dtype="int32"` Keras would make 2**32 + 1 a 1, before the layer."""
    ids = keras.Input((1,), dtype="int64")
    model = keras.Model(ids, keras_pep.PEPEmbedding(3, 2, name="table")(ids))
    assert np.isfinite(model.predict(np.array([[2]]), verbose=0)).all()
    error = tf.errors.InvalidArgumentError
    with pytest.raises(error, match=rf"{wrong} is not in \[0, 3\)"):
        model.predict(np.array([[wrong]]), verbose=0)
