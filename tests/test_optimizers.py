import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_pep
from keras_pep.layers import initial


def weight_after(optimizer, steps, start, gradient=0.0):
    variable = keras.Variable([start])
    for _ in range(steps):
        optimizer.apply([keras.ops.array([gradient])], [variable])
    return float(variable.numpy()[0])


def test_l2_alone_moves_a_weight_by_one_learning_rate_a_step():
    """What makes thresholds rise: from -15, 100 steps of 0.001 up."""
    optimizer = keras_pep.optimizers.AdamL2(0.001, l2=1e-5)
    # epsilon 1e-8 against a gradient of 1.5e-4 costs less than one part in
    # ten thousand, once Adam's bias correction has settled.
    assert weight_after(optimizer, 100, -15.0) == pytest.approx(-14.9, abs=1e-3)


def test_decoupled_weight_decay_does_not():
    optimizer = keras.optimizers.AdamW(0.001, weight_decay=1e-5)
    assert weight_after(optimizer, 100, -15.0) == pytest.approx(-15, abs=2e-5)


def test_without_l2_it_is_adam():
    ours = keras_pep.optimizers.AdamL2(0.01, l2=0.0, epsilon=1e-7)
    theirs = keras.optimizers.Adam(0.01)
    assert weight_after(ours, 5, 1.0, 0.3) == weight_after(theirs, 5, 1.0, 0.3)


def test_settings_survive_saving(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(
        keras_pep.optimizers.AdamL2(0.02, l2=0.5, clipnorm=3.0), "mse"
    )
    model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").optimizer
    assert isinstance(loaded, keras_pep.optimizers.AdamL2)
    assert loaded.get_config() == model.optimizer.get_config()
    assert loaded.get_config()["l2"] == 0.5


@pytest.mark.parametrize("l2", [-1.0, float("nan")])
def test_a_negative_l2_is_refused(l2):
    with pytest.raises(ValueError, match=f"l2={l2}"):
        keras_pep.optimizers.AdamL2(l2=l2)


def test_lazy_adam_is_adam_on_the_rows_of_a_batch():
    """Against NumPy, with duplicates, for a table without thresholds."""
    layer = keras.layers.Embedding(6, 2)  # its gradient has duplicate rows
    model = keras.Sequential([keras.Input((4,), dtype="int32"), layer])
    model.compile(keras_pep.optimizers.LazyAdam(0.01), "mse")
    table = layer.embeddings.numpy().astype(np.float64)
    moments = np.zeros((2, 6, 2))
    random = np.random.default_rng(0)
    for step in range(1, 11):
        ids = random.integers(0, 5, size=(3, 4))  # row 5 is never looked up
        target = random.normal(size=(3, 4, 2))
        gradient = np.zeros(table.shape)
        np.add.at(gradient, ids, 2 * (table[ids] - target) / target.size)
        rows = np.unique(ids)
        gradient = gradient[rows]
        moments[0, rows] += 0.1 * (gradient - moments[0, rows])
        moments[1, rows] += 0.001 * (gradient**2 - moments[1, rows])
        rate = 0.01 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        scale = np.sqrt(moments[1, rows]) + 1e-8
        table[rows] -= rate * moments[0, rows] / scale
        model.train_on_batch(ids, target)
    # Ten steps of 0.01; float32 keeps seven digits of numbers below 1.
    np.testing.assert_allclose(layer.embeddings.numpy(), table, atol=1e-6)


@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_a_gradient_of_the_whole_table_is_for_all_rows(l2):
    """As a regularizer of the table makes it."""
    tables = []
    for optimizer in (
        keras_pep.optimizers.LazyAdam(0.01, l2=l2),
        keras_pep.optimizers.AdamL2(0.01, l2=l2),
    ):
        layer = keras.layers.Embedding(6, 2)
        layer.build()
        layer.embeddings.assign(np.linspace(-1, 1, 12).reshape(6, 2))
        random = np.random.default_rng(0)
        for _ in range(4):
            gradient = tf.constant(random.normal(size=(6, 2)), tf.float32)
            optimizer.apply([gradient], [layer.embeddings])
        tables.append(layer.embeddings.numpy())
    np.testing.assert_allclose(*tables, atol=1e-6)


def test_slots_of_large_tables_are_the_same(monkeypatch):
    """They are made in blocks, in other memory, and are zeros all the same."""
    slots = []
    for large in (2**24, 100):
        monkeypatch.setattr(initial, "LARGE", large)
        layer = keras.layers.Embedding(60, 2)
        layer.build()
        layer.embeddings.assign(np.linspace(-1, 1, 120).reshape(60, 2))
        optimizer = keras_pep.optimizers.LazyAdam(0.01, l2=0.001)
        optimizer.build([layer.embeddings])
        for _ in range(2):
            rows = tf.IndexedSlices(tf.ones((1, 2)), tf.constant([3]), (60, 2))
            optimizer.apply([rows])
        slots.append([x.numpy() for x in optimizer.variables])
    assert [x.shape for x in slots[0]][-2:] == [(60, 4), (60, 1)]
    for before, after in zip(*slots, strict=True):
        np.testing.assert_array_equal(after, before)
    assert np.flatnonzero(slots[1][-2].any(axis=1)).tolist() == [3]


def test_l2_makes_up_for_the_steps_a_row_was_not_looked_up():
    """Against AdamL2, which has pulled at the row all the time."""
    tables = {}
    for optimizer in (
        keras_pep.optimizers.AdamL2(1e-3, l2=1e-3),
        keras_pep.optimizers.LazyAdam(1e-3, l2=1e-3),
        keras_pep.optimizers.LazyAdam(1e-3),
    ):
        layer = keras.layers.Embedding(
            3,
            4,
            embeddings_initializer=keras.initializers.RandomNormal(seed=1),
        )
        model = keras.Sequential([keras.Input((1,), dtype="int32"), layer])
        model.compile(optimizer, "mse")
        for step in range(150):  # rows 0 and 1 in turn, at long intervals
            row = 2 if step % 50 else step // 50 % 2
            model.train_on_batch(np.array([[row]]), np.full((1, 1, 4), 0.3))
        tables[len(tables)] = layer.embeddings.numpy()
    dense, lazy, without = tables.values()
    # Row 0 was seen at steps 0 and 100, by steps of some 0.001 towards 0.3,
    # which momentum goes on with.
    start = keras.initializers.RandomNormal(seed=1)((3, 4)).numpy()
    moved = abs(dense - start)[0]
    assert moved.min() > 0.01
    assert abs(lazy - dense)[0].max() < 0.5 * moved.min()
    assert abs(without - dense)[0].min() > 0.5 * moved.min()


def test_the_closed_form_of_idle_steps_is_what_its_docstring_says():
    """One row, looked up at steps 1 and 41, against NumPy in float64."""
    rate, l2, b1, b2, eps = 0.01, 1e-2, 0.9, 0.999, 1e-8
    layer = keras.layers.Embedding(
        2, 3, embeddings_initializer=keras.initializers.RandomNormal(seed=1)
    )
    model = keras.Sequential([keras.Input((1,), dtype="int32"), layer])
    model.compile(keras_pep.optimizers.LazyAdam(rate, l2=l2), "mse")
    model.build()
    value = layer.embeddings.numpy()[0].astype(np.float64)
    m = v = np.zeros(3)
    target = np.array([0.5, -0.2, 0.1])
    for step in range(1, 42):
        row = 0 if step in (1, 41) else 1
        model.train_on_batch(np.array([[row]]), target[None, None])
        if row:
            continue
        adjusted = rate * np.sqrt(1 - b2**step) / (1 - b1**step)
        gradient = 2 * (value - target) / 3  # the forward pass comes first
        idle = {1: 0, 41: 39}[step]
        # 0.9 + 0.81 + ... of what momentum would do in one step.
        series = sum(b1**n for n in range(1, idle + 1))
        value = value - adjusted * series * m / (np.sqrt(v) + eps)
        v = v * b2**idle + (l2 * value) ** 2 * (1 - b2**idle)
        pull = adjusted * l2 * idle / (np.sqrt(v) + eps)
        value, m = value * np.exp(-np.minimum(pull, 10)), m * b1**idle
        gradient = gradient + l2 * value
        m = m + (gradient - m) * (1 - b1)
        v = v + (gradient**2 - v) * (1 - b2)
        value = value - adjusted * m / (np.sqrt(v) + eps)
    # Float32 keeps seven digits; what is summed up here is below 1.
    np.testing.assert_allclose(layer.embeddings.numpy()[0], value, atol=1e-6)


def fitted(optimizer, embedding, ids):
    model = keras_pep.models.FM([6, 3], 4, embedding)
    model.compile(optimizer, keras.losses.BinaryCrossentropy(from_logits=True))
    model.build()
    before = {w.path: w.numpy() for w in model.weights}
    model.fit(ids, np.ones((len(ids), 1)), verbose=0)
    return model, before


@pytest.mark.parametrize("granularity", ["feature", "feature_dimension"])
def test_lazy_adam_leaves_rows_that_are_not_looked_up_alone(granularity):
    layer = keras_pep.PEPEmbedding(
        9, 4, granularity=granularity, threshold_init=-5.0, name="table"
    )
    model, before = fitted(
        keras_pep.optimizers.LazyAdam(0.1, l2=0.5),
        layer,
        np.array([[0, 1], [2, 1], [0, 1]]),
    )
    seen = np.isin(np.arange(9), [0, 2, 7])
    for weight in (
        layer.embeddings,
        layer.threshold_logits,
        model.first_order.kernel,
    ):
        moved = (weight.numpy() != before[weight.path]).any(axis=1)
        np.testing.assert_array_equal(moved, seen)
    slots = [x for x in model.optimizer.variables if x.shape[:1] == (9,)]
    thresholds = 2 * layer.threshold_logits.shape[1]
    assert [x.shape[1] for x in slots] == [8, thresholds, 2, 1, 1]
    for slot in slots:
        np.testing.assert_array_equal(slot.numpy().any(axis=1), seen)


@pytest.mark.parametrize(
    "granularity", ["feature_dimension", "field", "global", "dimension"]
)
def test_lazy_adam_does_not_pull_thresholds(granularity):
    """One step of Adam goes where the gradient points, or where L2 does."""
    up = {}
    for optimizer in (
        keras_pep.optimizers.LazyAdam(0.1, l2=100.0),
        keras_pep.optimizers.AdamL2(0.1, l2=100.0),
    ):
        keras.utils.set_random_seed(0)
        layer = keras_pep.PEPEmbedding(
            *(9, 4, granularity, [6, 3]), threshold_init=-5.0, name="table"
        )
        _, before = fitted(optimizer, layer, np.array([[0, 1], [2, 1]]))
        logits = layer.threshold_logits
        moved = logits.numpy() - before[logits.path]
        up[type(optimizer).__name__] = (moved > 0.05).all()
    assert up == {"LazyAdam": False, "AdamL2": True}


def test_lazy_adam_trains_compact_tables_too():
    table = np.ones((9, 4)) * (np.arange(4) < 2)
    layer = keras_pep.PrunedEmbedding.from_dense(table, name="table")
    _, before = fitted(
        keras_pep.optimizers.LazyAdam(0.1), layer, np.array([[0, 1], [2, 1]])
    )
    moved = layer.values.numpy() != before[layer.values.path]
    seen = np.repeat(np.isin(np.arange(9), [0, 2, 7]), 2)
    np.testing.assert_array_equal(moved, seen)


def test_without_idle_rows_lazy_adam_is_adam():
    results = []
    for optimizer in (
        keras_pep.optimizers.LazyAdam(0.01, l2=0.1),
        keras_pep.optimizers.AdamL2(0.01, l2=0.1),
    ):
        keras.utils.set_random_seed(0)
        ids = np.stack([np.arange(6), np.arange(6) % 3], axis=1)
        model, _ = fitted(optimizer, "dense", ids)
        results.append(model.get_weights())
    for lazy, dense in zip(*results, strict=True):
        np.testing.assert_allclose(lazy, dense, atol=1e-7)


@pytest.mark.parametrize(
    "argument",
    [
        {"global_clipnorm": 1.0},
        {"gradient_accumulation_steps": 2},
        {"use_ema": True},
        {"weight_decay": 0.1},
        {"amsgrad": True},
    ],
)
def test_lazy_adam_refuses_what_reads_every_row(argument):
    with pytest.raises(ValueError, match=next(iter(argument))):
        keras_pep.optimizers.LazyAdam(**argument)
