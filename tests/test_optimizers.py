import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_pep
from keras_pep._tf_kernels import USED, is_used, on_cpu
from keras_pep.layers import initial

BY_ROW = ["LazyAdam", "RowwiseAdagrad"]


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


@pytest.mark.parametrize("trick", [False, True])
def test_without_l2_it_is_adam(monkeypatch, trick):
    monkeypatch.setitem(USED, "adam", trick)
    ours = keras_pep.optimizers.AdamL2(0.01, l2=0.0, epsilon=1e-7)
    theirs = keras.optimizers.Adam(0.01)
    found, expected = (weight_after(x, 5, 1.0, 0.3) for x in (ours, theirs))
    if is_used("adam") and on_cpu():
        # Its correction of the bias is rounded less.
        assert found == pytest.approx(expected, abs=1e-6)
        assert found == pytest.approx(0.95, abs=2e-7)
    else:
        assert found == expected


@pytest.mark.parametrize("kind", ["AdamL2", "RowwiseAdagrad"])
def test_settings_survive_saving(kind, tmp_path):
    kind = getattr(keras_pep.optimizers, kind)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(kind(0.02, l2=0.5, clipnorm=3.0), "mse")
    model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").optimizer
    assert isinstance(loaded, kind)
    assert loaded.get_config() == model.optimizer.get_config()
    assert loaded.get_config()["l2"] == 0.5


def test_a_second_regularization_is_refused():
    with pytest.raises(ValueError, match=r"weight_decay=0.1, l2=1e-05"):
        keras_pep.optimizers.AdamL2(weight_decay=0.1)


@pytest.mark.parametrize("l2", [-1.0, float("nan")])
@pytest.mark.parametrize("kind", ["AdamL2", "RowwiseAdagrad"])
def test_a_negative_l2_is_refused(kind, l2):
    with pytest.raises(ValueError, match=f"l2={l2}"):
        getattr(keras_pep.optimizers, kind)(l2=l2)


@pytest.mark.usefixtures("either_way")
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


def pulled(row, state, k, rate, l2, epsilon=1e-8):
    """A row and its state after `k` idle steps, by the docstring's formula."""
    h = l2**2 * np.mean(row**2) / 2
    r, p = np.sqrt(state + h) + epsilon, 2 * rate * l2 * k
    (end,) = (x for x in np.roots([1, p, -r * (r + p) - 2 * h * k]) if x > 0)
    f = np.exp(-min(p / (r + end), 10))
    return row * f, max((end - epsilon) ** 2 - h * f**2, state)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("l2", [0.0, 0.01])
@pytest.mark.parametrize("start", [0.0, 0.1])
def test_rowwise_adagrad_is_the_rule_of_dlrm(l2, start):
    """Against NumPy, with duplicates and with rows absent for many steps."""
    rate = 0.05
    layer = keras.layers.Embedding(
        6, 2, embeddings_initializer=keras.initializers.RandomNormal(seed=1)
    )
    model = keras.Sequential([keras.Input((4,), dtype="int32"), layer])
    optimizer = keras_pep.optimizers.RowwiseAdagrad(
        rate, l2=l2, initial_accumulator_value=start
    )
    model.compile(optimizer, "mse")
    table = layer.embeddings.numpy().astype(np.float64)
    state, last = np.full(6, start), np.zeros(6, int)
    random = np.random.default_rng(0)
    for step in range(1, 41):
        # Row 4 comes in steps 1 and 40 alone, row 5 never.
        ids = random.integers(0, 4, size=(3, 4))
        ids[0, 0] = 4 if step in (1, 40) else ids[0, 0]
        target = random.normal(size=(3, 4, 2))
        gradient = np.zeros(table.shape)
        np.add.at(gradient, ids, 2 * (table[ids] - target) / target.size)
        for row in np.unique(ids):
            if l2:
                idle = step - 1 - last[row], rate, l2
                table[row], state[row] = pulled(table[row], state[row], *idle)
            g = gradient[row] + l2 * table[row]
            state[row] += np.mean(g**2)
            table[row] -= rate * g / (np.sqrt(state[row]) + 1e-8)
            last[row] = step
        model.train_on_batch(ids, target)
    # Forty steps of 0.05; float32 keeps seven digits of numbers below 1.
    np.testing.assert_allclose(layer.embeddings.numpy(), table, atol=2e-6)
    (slot,) = (x for x in optimizer.variables if x.path.endswith("accumulator"))
    np.testing.assert_allclose(slot.numpy()[:, 0], state, rtol=1e-5)
    optimizer.catch_up()
    for row in range(6 if l2 else 0):
        idle = 40 - last[row], rate, l2
        table[row], state[row] = pulled(table[row], state[row], *idle)
    np.testing.assert_allclose(layer.embeddings.numpy(), table, atol=2e-6)
    np.testing.assert_allclose(slot.numpy()[:, 0], state, rtol=1e-5)


@pytest.mark.usefixtures("either_way")
def test_what_is_no_table_has_a_state_for_every_entry():
    """Adagrad of the same rate, as in DLRM; against NumPy."""
    kernel = keras.Variable(np.ones((2, 3), "float32"), name="kernel")
    optimizer = keras_pep.optimizers.RowwiseAdagrad(0.1, l2=0.5)
    expected, state = np.ones((2, 3)), np.zeros((2, 3))
    for step in range(1, 4):
        gradient = np.arange(6.0).reshape(2, 3) - step
        optimizer.apply([keras.ops.array(gradient, "float32")], [kernel])
        gradient += 0.5 * expected
        state += gradient**2
        expected -= 0.1 * gradient / (np.sqrt(state) + 1e-8)
    np.testing.assert_allclose(kernel.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("l2", [0.0, 1e-5])
def test_rowwise_adagrad_keeps_one_number_a_row(l2):
    """A table of any width has 4 bytes a row; L2 adds 8, or 4."""
    rows = 1_000
    model = keras_pep.models.DeepFM((400, 600), 24, hidden_units=(10,))
    model.build()
    optimizer = keras_pep.optimizers.RowwiseAdagrad(l2=l2)
    optimizer.build(model.trainable_variables)
    found = sum(x.numpy().nbytes for x in optimizer.variables)
    counts = {"embeddings", "kernel"}  # of the table, and first-order weights
    others = [
        weight
        for weight in model.trainable_variables
        if weight.name not in counts or weight.shape[0] != rows
    ]
    assert len(model.trainable_variables) == len(others) + 2
    # Steps, rate, and the last catching up.
    integer = optimizer.iterations.numpy().nbytes
    elsewhere = sum(weight.numpy().nbytes for weight in others)
    step = integer if l2 else 0
    assert found == 2 * rows * (4 + step) + elsewhere + 2 * integer + 4


@pytest.mark.parametrize("rate", [0.003, 0.03])
def test_caught_up_rows_are_as_the_rule_would_have_them(rate):
    """On Zipf ids, next to L2 for every row in every step, in NumPy."""
    l2, steps = 1e-3, 200
    optimizer = keras_pep.optimizers.RowwiseAdagrad(rate, l2=l2)
    lazy = looked_up(optimizer, steps, zipf, catch_up=range(0, steps, 20))
    optimizer.catch_up()
    table = looked_up(optimizer, 0, zipf).numpy().astype(np.float64)
    start, state = table.copy(), np.zeros((60, 1))
    for step in range(steps):
        gradient = l2 * table
        ids = zipf(step)
        np.add.at(gradient, ids, 2 * (table[ids] - 0.3) / (len(ids) * 4))
        state += np.mean(gradient**2, axis=1, keepdims=True)
        table -= rate * gradient / (np.sqrt(state) + 1e-8)
    error = abs(lazy.numpy() - table)
    # The first steps of L2 alone are as long as the rate.
    assert error.max() < rate
    assert error.mean() < 0.05 * abs(table - start).mean()
    optimizer = keras_pep.optimizers.RowwiseAdagrad(rate, l2=l2)
    alone = abs(looked_up(optimizer, steps, zipf).numpy() - table)
    assert alone.mean() > 3 * error.mean()


@pytest.mark.requires_tensorflow
@pytest.mark.usefixtures("either_way")
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


@pytest.mark.requires_tensorflow
@pytest.mark.usefixtures("either_way")
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
    assert [x.shape for x in slots[0]] == [
        *((), (), (60, 2), (60, 2), (60, 1), ())
    ]
    for before, after in zip(*slots, strict=True):
        np.testing.assert_array_equal(after, before)
    for slot in slots[1][2:5]:
        assert np.flatnonzero(slot.any(axis=1)).tolist() == [3]


def looked_up(optimizer, steps, rows, dim=4, catch_up=()):
    """A table that is fitted to 0.3, some rows in every step."""
    layer = keras.layers.Embedding(
        60, dim, embeddings_initializer=keras.initializers.RandomNormal(seed=1)
    )
    model = keras.Sequential([keras.Input((None,), dtype="int32"), layer])
    model.compile(optimizer, "mse")
    model.build()
    for step in range(steps):
        ids = rows(step)[None]
        model.train_on_batch(ids, np.full((*ids.shape, dim), 0.3, "float32"))
        if step in catch_up:
            optimizer.catch_up()
    return layer.embeddings


def zipf(step):
    random = np.random.default_rng(step)
    return random.zipf(1.3, 6).clip(max=60) - 1


@pytest.mark.parametrize("rate", [1e-3, 5e-3])
def test_caught_up_rows_are_as_adam_with_l2_would_have_them(rate):
    """On Zipf ids: some rows come in every step, others never."""
    l2, steps = 1e-4, 200
    dense = looked_up(keras_pep.optimizers.AdamL2(rate, l2=l2), steps, zipf)
    optimizer = keras_pep.optimizers.LazyAdam(rate, l2=l2)
    lazy = looked_up(optimizer, steps, zipf, catch_up=range(0, steps, 20))
    optimizer.catch_up()
    error = abs(lazy.numpy() - dense.numpy())
    moved = abs(dense.numpy() - looked_up(optimizer, 0, zipf).numpy())
    # The closed form follows momentum and L2 one after the other, and steps
    # of L2 alone overshoot zero, by up to ten rates, where it does not.
    assert error.max() < 10 * rate
    assert error.mean() < 0.05 * moved.mean()
    # Left alone, the rows are several times as far off.
    alone = looked_up(keras_pep.optimizers.LazyAdam(rate, l2=l2), steps, zipf)
    far = abs(alone.numpy() - dense.numpy())
    assert far.mean() > 3 * error.mean()


def idle_steps(value, gradient, first, count, rate, l2):
    """Adam, step by step in float64: one gradient, then those of L2 alone."""
    m = v = 0.0
    for step in range(first, first + count + 1):
        whole = l2 * value + (gradient if step == first else 0.0)
        m, v = 0.9 * m + 0.1 * whole, 0.999 * v + 0.001 * whole**2
        correction = np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        value -= rate(step - 1) * correction * m / (np.sqrt(v) + 1e-8)
    return value


def one_row(optimizer, start, before=0):
    """A table of one row looked up, by `apply(gradient)`, after some steps."""
    table = keras.Variable(np.full((2, 1), start, "float32"), name="embeddings")
    optimizer.build([table])
    for variable in optimizer.variables:
        if variable.name.endswith(("iteration", "_step")):
            variable.assign(np.full(variable.shape, before))

    def apply(gradient, row=0):
        slices = tf.IndexedSlices(tf.constant([[gradient]]), [row], (2, 1))
        optimizer.apply([slices])

    return table, apply


@pytest.mark.requires_tensorflow
@pytest.mark.parametrize("idle", [1, 5, 50, 400])
@pytest.mark.parametrize("gradient", [1e-2, -1e-3])
def test_idle_steps_are_those_of_adam(idle, gradient):
    """Where L2 is weak next to the gradient, the closed form is close."""
    rate, l2, before = 1e-3, 1e-5, 5000
    optimizer = keras_pep.optimizers.LazyAdam(rate, l2=l2)
    table, apply = one_row(optimizer, 0.1, before)
    apply(gradient)
    optimizer.iterations.assign(before + 1 + idle)
    optimizer.catch_up()
    expected = idle_steps(0.1, gradient, before + 1, idle, lambda _: rate, l2)
    # Momentum moves it by up to 0.03, of which 1 % is because the second
    # moment fades meanwhile, which the closed form leaves out.
    assert float(table[0, 0]) == pytest.approx(expected, abs=3e-4)
    assert abs(expected - 0.1) > 0.002


@pytest.mark.requires_tensorflow
def test_a_row_never_seen_falls_by_a_rate_a_step():
    """Adam makes steps of one rate of L2 alone, whatever its weight."""
    optimizer = keras_pep.optimizers.LazyAdam(1e-3, l2=1e-5)
    table, apply = one_row(optimizer, 0.1)
    apply(1.0, row=1)
    optimizer.iterations.assign(50)
    optimizer.catch_up()
    assert float(table[0, 0]) == pytest.approx(0.05, abs=0.01)
    dense = idle_steps(0.1, 0.0, 1, 49, lambda _: 1e-3, 1e-5)
    assert float(table[0, 0]) == pytest.approx(dense, abs=0.005)


@pytest.mark.requires_tensorflow
@pytest.mark.parametrize("after", [1000, 2000])
def test_idle_steps_are_charged_the_rate_they_had(after):
    """A rate that falls in a line, to half of it or to zero."""
    schedule = keras.optimizers.schedules.PolynomialDecay(3.5e-3, 7000, 0.0)
    optimizer = keras_pep.optimizers.LazyAdam(schedule, l2=1e-5)
    table, apply = one_row(optimizer, 0.5, 5000)
    apply(1e-2)
    optimizer.iterations.assign(5001 + after)
    optimizer.catch_up()

    def rate(step):
        return 3.5e-3 * (1 - step / 7000)

    expected = idle_steps(0.5, 1e-2, 5001, after, rate, 1e-5)
    without = idle_steps(0.5, 1e-2, 5001, after, rate, 0.0)
    pulled = without - expected
    assert pulled > 0.008
    # The last steps pull harder, since the second moment has faded by then,
    # and have the lowest rates, where the closed form has one for all: the
    # present rate would pull by half, or not at all; the first, by double.
    assert without - float(table[0, 0]) == pytest.approx(pulled, rel=0.25)


@pytest.mark.requires_tensorflow
@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize(
    ("kind", "l2"), [("LazyAdam", 1e-3), ("RowwiseAdagrad", 2e-2)]
)
def test_catching_up_is_what_the_next_look_up_would_do(kind, l2):
    """Then, or twice, or read without writing: the same values."""
    tables = {}
    for when in ((), (30,), (10, 30), (30, 30)):
        optimizer = getattr(keras_pep.optimizers, kind)(1e-2, l2=l2)
        table, apply = one_row(optimizer, 0.5)
        for step in range(31):
            apply(0.1, row=int(step > 0))
            for _ in range(when.count(step)):
                expected = optimizer.take(table, keras.ops.arange(2)).numpy()
                optimizer.catch_up()
                np.testing.assert_array_equal(table.numpy(), expected)
        present = table.numpy()[0, 0]
        apply(0.1)
        tables[when] = present, table.numpy()[0, 0]
    assert tables[()][0] - tables[30,][0] > 0.02
    assert tables[30,][1] == pytest.approx(tables[()][1], abs=1e-7)
    assert tables[30, 30] == tables[30,]
    # In two parts, it is as close as the closed form is.
    assert tables[10, 30] == pytest.approx(tables[30,], abs=2e-3)


@pytest.mark.requires_tensorflow
def test_fit_ends_with_rows_that_are_up_to_date():
    tables = []
    for kind in ("AdamL2", "LazyAdam"):
        layer = keras.layers.Embedding(
            9, 2, embeddings_initializer=keras.initializers.RandomNormal(seed=1)
        )
        model = keras.Sequential([keras.Input((1,), dtype="int32"), layer])
        model.compile(getattr(keras_pep.optimizers, kind)(1e-3, l2=1e-3), "mse")
        ids = np.arange(9)[:, None] // 3
        model.fit(ids, np.ones((9, 1, 2)), batch_size=1, epochs=2, verbose=0)
        tables.append(layer.embeddings.numpy())
    dense, lazy = tables
    # L2 alone has moved a row that was never looked up by 18 steps of 0.001.
    np.testing.assert_allclose(lazy[5:], dense[5:], atol=5e-3)
    start = keras.initializers.RandomNormal(seed=1)((9, 2)).numpy()
    assert abs(start - dense)[5:].min() > 0.01


@pytest.mark.usefixtures("either_way")
def test_steps_are_counted_beyond_what_float32_can_count():
    """After 2**24 + 1 steps of which a row has missed none, or one."""
    first = 2**24 + 1
    layer = keras.layers.Embedding(
        3, 2, embeddings_initializer=keras.initializers.RandomNormal(seed=1)
    )
    model = keras.Sequential([keras.Input((1,), dtype="int32"), layer])
    optimizer = keras_pep.optimizers.LazyAdam(1e-3, l2=1e-3)
    model.compile(optimizer, "mse")
    model.build()
    optimizer.build(model.trainable_variables)
    optimizer.iterations.assign(first)
    for row in (0, 1, 0):
        model.train_on_batch(np.array([[row]]), np.ones((1, 1, 2)))
    (last,) = (x for x in optimizer.variables if x.name.endswith("last_step"))
    assert last.numpy()[:, 0].tolist() == [first + 3, first + 2, 0]
    assert int(optimizer.iterations) == first + 3


@pytest.mark.usefixtures("either_way")
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
        gradient = 2 * (value - target) / 3  # the forward pass comes first
        if step == 41:
            k, n = 39, sum(b1**i for i in range(1, 40))
            t = 1 + 5.5  # the first ten idle steps
            first_rate = rate * np.sqrt(1 - b2**t) / (1 - b1**t)
            r = np.sqrt(v) + eps
            value = value - first_rate * n * m / r
            v, u = v * b2**k, (l2 * value) ** 2 * (1 - b2**k)
            end = np.sqrt(v + u) + eps
            start = np.maximum(r, end)
            inverse = (4 / np.sqrt(start * end) + 1 / start + 1 / end) / 6
            late = n * (1 - b1)  # after one step
            p = rate * np.sqrt(1 - b2**40) * l2 * (k - late) * inverse
            f = np.where(end > r, 1 - p / 2, np.exp(-p / 2))
            value, v = value * f**2, v + u * f
            m = m * b1**k + l2 * value * (1 - b1**k)
        gradient = gradient + l2 * value
        m = m + (gradient - m) * (1 - b1)
        v = v + (gradient**2 - v) * (1 - b2)
        adjusted = rate * np.sqrt(1 - b2**step) / (1 - b1**step)
        value = value - adjusted * m / (np.sqrt(v) + eps)
    # Float32 keeps seven digits; what is summed up here is below 1.
    np.testing.assert_allclose(layer.embeddings.numpy()[0], value, atol=1e-6)


def fitted(optimizer, embedding, ids):
    model = keras_pep.models.FM([6, 3], 4, embedding)
    model.compile(optimizer, keras.losses.BinaryCrossentropy(from_logits=True))
    model.build()
    before = {w.path: w.numpy() for w in model.weights}
    model.train_on_batch(ids, np.ones((len(ids), 1)))
    return model, before


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("kind", BY_ROW)
@pytest.mark.parametrize("granularity", ["feature", "feature_dimension"])
def test_rows_that_are_not_looked_up_are_left_alone(granularity, kind):
    layer = keras_pep.PEPEmbedding(
        9, 4, granularity=granularity, threshold_init=-5.0, name="table"
    )
    model, before = fitted(
        getattr(keras_pep.optimizers, kind)(0.1, l2=0.5),
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
    thresholds = layer.threshold_logits.shape[1]
    columns = {
        "LazyAdam": [4, 4, thresholds, thresholds, 1, 1],
        "RowwiseAdagrad": [1, 1, 1],
    }
    assert [x.shape[1] for x in slots] == [*columns[kind], 1, 1]
    for slot in slots:
        np.testing.assert_array_equal(slot.numpy().any(axis=1), seen)


@pytest.mark.skip_on_torch("other values are drawn")
@pytest.mark.parametrize(
    "granularity", ["feature_dimension", "field", "global", "dimension"]
)
def test_by_row_thresholds_are_not_pulled(granularity):
    """One step of Adam goes where the gradient points, or where L2 does."""
    up = {}
    for optimizer in (
        keras_pep.optimizers.LazyAdam(0.1, l2=100.0),
        keras_pep.optimizers.RowwiseAdagrad(0.1, l2=100.0),
        keras_pep.optimizers.AdamL2(0.1, l2=100.0),
    ):
        keras.utils.set_random_seed(0)
        layer = keras_pep.PEPEmbedding(
            9,
            4,
            granularity=granularity,
            field_sizes=[6, 3],
            threshold_init=-5.0,
            name="table",
        )
        _, before = fitted(optimizer, layer, np.array([[0, 1], [2, 1]]))
        logits = layer.threshold_logits
        moved = logits.numpy() - before[logits.path]
        up[type(optimizer).__name__] = (moved > 0.05).all()
    assert up == {"LazyAdam": False, "RowwiseAdagrad": False, "AdamL2": True}


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("kind", BY_ROW)
def test_compact_tables_are_trained_by_row_too(kind):
    table = np.ones((9, 4)) * (np.arange(4) < 2)
    layer = keras_pep.PrunedEmbedding.from_dense(table, name="table")
    _, before = fitted(
        getattr(keras_pep.optimizers, kind)(0.1),
        layer,
        np.array([[0, 1], [2, 1]]),
    )
    moved = layer.values.numpy() != before[layer.values.path]
    seen = np.repeat(np.isin(np.arange(9), [0, 2, 7]), 2)
    np.testing.assert_array_equal(moved, seen)


@pytest.mark.usefixtures("either_way")
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


@pytest.mark.requires_tensorflow
@pytest.mark.usefixtures("either_way")
def test_switches_decide_on_kernels():
    layer = keras_pep.PEPEmbedding(9, 4, granularity="feature_dimension")
    layer.build()
    optimizer = keras_pep.optimizers.LazyAdam()
    optimizer.build(layer.trainable_variables)

    @tf.function
    def step(ids):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(ids))
        optimizer.apply(
            tape.gradient(loss, [v.value for v in layer.trainable_variables])
        )

    graph = step.get_concrete_function(tf.constant([1, 2])).graph
    kinds = {operation.type for operation in graph.get_operations()}
    kernels = {"SparseTensorDenseMatMul", "ResourceApplyAdam"}
    tricks = USED["sums"] and on_cpu()
    assert kernels & kinds == (kernels if tricks else set())
    table = layer.embeddings
    slots = [x for x in optimizer.variables if x.shape == table.shape]
    assert len(slots) == 4  # two moments of the table and of its thresholds


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
@pytest.mark.parametrize("kind", BY_ROW)
def test_what_reads_every_row_is_refused(kind, argument):
    with pytest.raises(ValueError, match=next(iter(argument))):
        getattr(keras_pep.optimizers, kind)(**argument)
