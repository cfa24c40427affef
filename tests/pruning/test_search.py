import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_pep
from keras_pep.lab.run.progress import KeptOverSteps
from keras_pep.pruning import BudgetNotReachedWarning, clock, pruned_model
from keras_pep.pruning.search import make_collector
from keras_pep.thresholds import GRANULARITIES

SIZES = (10, 10)
DIM = 8
TABLE = sum(SIZES) * DIM
STEPS = 40


@pytest.fixture
def batches():
    """A checkerboard: two fields, learnable by pairs only."""
    random = np.random.default_rng(0)
    ids = random.integers(0, 10, size=(STEPS * 64, 2)).astype("int32")
    labels = (ids.sum(axis=1, keepdims=True) % 2 == 0).astype("float32")
    return tf.data.Dataset.from_tensor_slices((ids, labels)).batch(64)


def compiled(model, **optimizer):
    model.compile(
        keras_pep.optimizers.AdamL2(**{"learning_rate": 0.02, **optimizer}),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return model


def fm(l2=1e-5, **layer):
    return compiled(
        keras_pep.models.FM(
            SIZES,
            DIM,
            keras_pep.PEPEmbedding(
                sum(SIZES), DIM, **{"threshold_init": -5.0, **layer}
            ),
        ),
        l2=l2,
    )


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_every_budget_is_met_exactly_in_the_epochs_given(batches, granularity):
    """Lifetimes differ by |V|, whatever shares a threshold: no ties."""
    model = fm(granularity=granularity, field_sizes=SIZES)
    tickets = keras_pep.search(
        model, batches, budgets=[20, 100, 99, 60], epochs=4
    )
    assert [t.budget for t in tickets] == [100, 99, 60, 20]
    for ticket in tickets:  # float32 may not tell the last two apart
        assert ticket.budget - 1 <= ticket.embedding_parameters <= ticket.budget
    assert tickets[-1].sparsity == pytest.approx(1 - 20 / TABLE, abs=1 / TABLE)
    assert 0.3 * 4 * STEPS < tickets[0].step < tickets[-1].step <= 4 * STEPS
    # A smaller ticket need not be part of a larger one, but mostly is.
    large, small = (next(iter(t.tables.values())).mask() for t in tickets[::3])
    assert (large & small).sum() > 0.8 * small.sum()


def test_prefixes_are_searched_and_retrained(batches):
    model = fm(structure="prefix")
    (ticket,) = keras_pep.search(model, batches, budgets=[50], epochs=4)
    assert 49 <= ticket.embedding_parameters <= 50
    mask = next(iter(ticket.tables.values())).mask()
    assert (mask[:, 1:] <= mask[:, :-1]).all()
    assert len({*mask.sum(axis=1)}) > 1
    small = keras_pep.retrain(model, ticket, batches, epochs=8)
    ids, labels = next(iter(batches.unbatch().batch(2000)))
    assert keras_pep.metrics.evaluate(small, ids, labels)["auc"] > 0.95
    np.testing.assert_array_equal(small.embedding.sparse().mask(), mask)


def test_schedule_reaches_its_budget_when_epochs_are_very_short(batches):
    tickets = keras_pep.search(
        fm(), batches.take(1), budgets=[10], epochs=3, method="budget"
    )
    # After three steps lifetimes are so close that float32 may not tell two
    # apart; then one entry fewer is kept, never one more.
    assert [t.embedding_parameters for t in tickets] in ([9], [10])


@pytest.mark.skip_on_torch("it has one step an execution")
def test_steps_are_counted_right_where_keras_runs_several_at_once(batches):
    model = fm()
    model.compile(
        model.optimizer, model.loss, steps_per_execution=7
    )  # 40 steps an epoch are 5 times 7 and one time 5
    epochs = []

    class Steps(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            epochs.append(int(self.model.optimizer.iterations.numpy()))

    tickets = keras_pep.search(
        model, batches, budgets=[100, 20], epochs=4, callbacks=[Steps()]
    )
    assert epochs == [40, 80, 120, 160]
    assert tickets[-1].step == 160


def test_paper_method_takes_the_ticket_at_the_step_it_is_passed(batches):
    counts = {}

    class Count(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            step = int(self.model.optimizer.iterations.numpy())
            counts[step] = self.model.embedding.nonzero_parameters()

    tickets = keras_pep.search(
        fm(granularity="feature_dimension", threshold_init=-6.0, l2=0.01),
        batches,
        budgets=[120, 80],
        method="paper",
        epochs=20,
        callbacks=[Count()],
    )
    assert [t.budget for t in tickets] == [120, 80]
    for ticket in tickets:
        assert counts[ticket.step] == ticket.embedding_parameters
        assert ticket.embedding_parameters <= ticket.budget
        first = next(s for s in sorted(counts) if counts[s] <= ticket.budget)
        # Late by a gap between counts, if pruning sets in suddenly.
        assert first <= ticket.step < first + 20


def test_paper_method_warns_of_a_budget_out_of_reach(batches):
    with pytest.warns(BudgetNotReachedWarning, match=r"\[5\].*80 steps"):
        tickets = keras_pep.search(
            fm(threshold_init=-15.0),
            batches,
            budgets=[5],
            method="paper",
            epochs=2,
        )
    assert tickets == []


def test_a_ticket_holds_initial_values_and_retraining_starts_there(batches):
    model = fm()
    model.build()
    initial = model.embedding.embeddings.numpy()
    model.first_order.kernel.assign(np.full((20, 1), 0.25))
    (ticket,) = keras_pep.search(model, batches, budgets=[60], epochs=2)

    small = pruned_model(model, ticket)
    mask = ticket.tables["pep_embedding"].mask()
    np.testing.assert_array_equal(
        small.embedding(np.arange(20)), initial * mask
    )
    np.testing.assert_array_equal(
        small.first_order.kernel, np.full((20, 1), 0.25)
    )

    small = keras_pep.retrain(model, ticket, batches, epochs=3)
    after = small.embedding(np.arange(20)).numpy()
    np.testing.assert_array_equal(after != 0, mask)
    assert (after != initial)[mask].all()
    ids, labels = next(iter(batches.unbatch().batch(10**6)))
    figures = keras_pep.metrics.evaluate(
        small, ids.numpy(), labels.numpy()[:, 0]
    )
    assert figures["auc"] > 0.9  # what no first-order model can do


def test_retraining_starts_where_it_is_told_to(batches):
    model = fm()
    model.build()
    (ticket,) = keras_pep.search(model, batches, budgets=[60], epochs=2)
    mask = ticket.tables["pep_embedding"].mask()
    learned = model.embedding.pruned_embeddings()
    kernel = model.first_order.kernel.numpy()
    starts = {
        start: pruned_model(model, ticket, start).embedding(np.arange(20))
        for start in ("rewind", "reinit", "finetune")
    }
    for table in starts.values():
        np.testing.assert_array_equal(table.numpy() != 0, mask)
    np.testing.assert_array_equal(starts["finetune"], learned)
    np.testing.assert_array_equal(
        starts["rewind"], model.embedding.initial_embeddings() * mask
    )
    other = starts["reinit"].numpy()[mask]
    assert not np.isin(other, starts["rewind"]).any()
    assert abs(other).max() <= 0.05  # as the initializer draws
    for start, same in (("rewind", False), ("finetune", True)):
        small = pruned_model(model, ticket, start)
        assert np.array_equal(small.first_order.kernel, kernel) == same
    with pytest.raises(ValueError, match="start='again'"):
        pruned_model(model, ticket, "again")
    with pytest.raises(ValueError, match="initial values only"):
        pruned_model(model, keras_pep.Ticket(ticket.tables), "finetune")


def test_a_trained_model_is_made_compact(batches):
    model = fm()
    callback = keras_pep.callbacks.PEPRetraining(60, monitor="loss")
    model.build()
    model.fit(batches, epochs=2, verbose=0, shuffle=False, callbacks=[callback])
    small = pruned_model(model)
    assert isinstance(small.embedding, keras_pep.PrunedEmbedding)
    assert small.embedding.num_values == model.embedding.nonzero_parameters()
    ids = next(iter(batches))[0]
    np.testing.assert_allclose(small(ids), model(ids), atol=1e-6)


def test_magnitude_keeps_the_largest_entries_of_the_full_table(batches):
    model = fm()
    table = {}

    class Last(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            table["values"] = self.model.embedding.embeddings.numpy()

    tickets = keras_pep.search(
        model,
        batches,
        budgets=[100, 20],
        method="magnitude",
        epochs=2,
        callbacks=[Last()],
    )
    size = abs(table["values"]).ravel()
    for ticket in tickets:
        assert ticket.step == 2 * STEPS
        mask = ticket.tables["pep_embedding"].mask().ravel()
        assert ticket.budget - 1 <= mask.sum() <= ticket.budget
        assert size[mask].min() > size[~mask].max()
        learned = ticket.learned_tables()["pep_embedding"].to_dense().ravel()
        np.testing.assert_array_equal(learned, table["values"].ravel() * mask)


def test_a_strangers_functional_model_with_two_tables(batches):
    inputs = keras.Input((2,), dtype="int32")
    user = keras_pep.PEPEmbedding(10, 4, name="user")(inputs[:, 0])
    item = keras_pep.PEPEmbedding(10, 4, name="item")(inputs[:, 1])
    hidden = keras.layers.Concatenate()([user, item])
    hidden = keras.layers.Dense(16, activation="relu")(hidden)
    model = compiled(keras.Model(inputs, keras.layers.Dense(1)(hidden)))
    initial = [w.numpy() for w in model.layers[-1].weights]

    (ticket,) = keras_pep.search(model, batches, budgets=[40], epochs=2)
    assert set(ticket.tables) == {"user", "item"}
    small = pruned_model(model, ticket)
    tables = (small.get_layer(name) for name in ("user", "item"))
    assert sum(table.num_values for table in tables) == 40
    for name, table in ticket.tables.items():
        layer = small.get_layer(name)
        assert isinstance(layer, keras_pep.PrunedEmbedding)
        np.testing.assert_array_equal(
            layer(np.arange(10)).numpy() != 0, table.mask()
        )
    for weight, start in zip(small.layers[-1].weights, initial, strict=True):
        np.testing.assert_array_equal(weight, start)
    assert keras_pep.retrain(model, ticket, batches, epochs=1).compiled


@pytest.mark.parametrize("budgets", [[], [0], [TABLE], [10, TABLE + 5]])
@pytest.mark.parametrize("method", ["budget", "paper"])
def test_impossible_budgets_are_refused_before_training(
    batches, budgets, method
):
    model = fm()
    model.build()
    before = model.embedding.embeddings.numpy()
    with pytest.raises(ValueError, match="budget"):
        keras_pep.search(model, batches, budgets=budgets, method=method)
    np.testing.assert_array_equal(model.embedding.embeddings, before)


def test_what_cannot_be_searched_is_refused(batches):
    with pytest.raises(ValueError, match="method='fast'"):
        keras_pep.search(fm(), batches, budgets=[9], method="fast")
    dense = compiled(keras_pep.models.FM(SIZES, DIM, "dense"))
    with pytest.raises(ValueError, match="no `PEPEmbedding`"):
        keras_pep.search(dense, batches, budgets=[9])


def test_a_ticket_of_another_model_is_refused(batches):
    model = fm()
    (ticket,) = keras_pep.search(model, batches, budgets=[60], epochs=1)
    other = compiled(keras_pep.models.FM((10, 11), DIM))
    other.build()
    with pytest.raises(ValueError, match="belongs to another model"):
        pruned_model(other, ticket)
    more = keras_pep.Ticket(ticket.tables, (*ticket.weights, np.ones(3)))
    with pytest.raises(ValueError, match="belongs to another model"):
        pruned_model(model, more)


def test_all_other_weights_are_rewound_the_frozen_and_the_moving(batches):
    inputs = keras.Input((2,), dtype="int32")
    table = keras_pep.PEPEmbedding(10, 4, name="table")(inputs)
    frozen = keras.layers.Embedding(
        10, 4, embeddings_initializer="random_normal", trainable=False
    )(inputs)
    hidden = keras.layers.Flatten()(keras.layers.Add()([table, frozen]))
    hidden = keras.layers.BatchNormalization()(hidden)
    model = compiled(keras.Model(inputs, keras.layers.Dense(1)(hidden)))
    initial = {
        w.path: w.numpy() for w in model.weights if "table" not in w.path
    }
    (ticket,) = keras_pep.search(model, batches, budgets=[20], epochs=1)
    assert any(  # batch statistics have moved
        not np.array_equal(w.numpy(), initial[w.path])
        for w in model.non_trainable_weights
        if w.path in initial
    )
    small = pruned_model(model, ticket)
    rewound = {w.path: w.numpy() for w in small.weights if w.path in initial}
    assert rewound.keys() == initial.keys()
    for path, value in initial.items():
        np.testing.assert_array_equal(rewound[path], value)


@pytest.mark.skip_on_torch("it has one step an execution")
def test_retraining_is_compiled_as_the_search_was(batches):
    model = keras_pep.models.FM(SIZES, DIM)
    model.compile(
        keras_pep.optimizers.AdamL2(0.02, clipnorm=3.0),
        keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=["mae"],
        steps_per_execution=2,
    )
    (ticket,) = keras_pep.search(model, batches, budgets=[60], epochs=1)
    small = keras_pep.retrain(model, ticket, batches, epochs=1)
    assert small.optimizer is not model.optimizer
    assert small.optimizer.clipnorm == 3.0
    assert small.steps_per_execution == 2
    assert "mae" in small.evaluate(batches, return_dict=True, verbose=0)
    fresh = keras_pep.models.FM(SIZES, DIM)
    with pytest.raises(ValueError, match="must be compiled"):
        keras_pep.retrain(fresh, ticket, batches)


@keras.saving.register_keras_serializable(package="test")
class Stranger(keras.Model):
    """A model whose configuration does not hold its layers."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.table = keras_pep.PEPEmbedding(10, 4, name="table")
        self.top = keras.layers.Dense(1)

    def call(self, inputs):
        return self.top(keras.ops.sum(self.table(inputs), axis=1))


def test_a_model_that_cannot_be_made_small_is_refused(batches):
    model = compiled(Stranger())
    (ticket,) = keras_pep.search(model, batches, budgets=[20], epochs=1)
    with pytest.raises(ValueError, match=r"\['table'\].*get_config"):
        keras_pep.retrain(model, ticket, batches)


def test_two_tables_of_one_name_are_refused(batches):
    inputs = keras.Input((2,), dtype="int32")
    towers = [
        keras_pep.models.FM(SIZES, DIM, name=name)(inputs) for name in "ab"
    ]
    model = compiled(keras.Model(inputs, keras.layers.Add()(towers)))
    with pytest.raises(ValueError, match="a name of its own"):
        keras_pep.search(model, batches, budgets=[20], epochs=1)


def test_a_trained_model_is_not_searched(batches):
    model = fm()
    keras_pep.search(model, batches, budgets=[60], epochs=1)
    with pytest.raises(ValueError, match="search with a new model"):
        keras_pep.search(model, batches, budgets=[60], epochs=1)


def test_divergence_and_ties_are_reported(batches):
    model = fm()
    model.compile("sgd", loss=lambda _, p: keras.ops.mean(p) * np.nan)
    with pytest.raises(ValueError, match=r"diverged.*learning rate"):
        keras_pep.search(model, batches, budgets=[60], epochs=1)
    model = fm(embeddings_initializer="ones")
    model.compile("sgd", loss=lambda _, p: 0.0 * keras.ops.mean(p))
    with pytest.raises(ValueError, match="Initialize the table at random"):
        keras_pep.search(model, batches, budgets=[60], epochs=1)


def test_equal_sizes_never_exceed_a_budget(batches):
    """Half of the entries are 0.1, half 0.2: no clock leaves 100 of 160."""
    halves = np.where(np.arange(TABLE).reshape(-1, DIM) % 2, 0.1, 0.2)
    model = fm(embeddings_initializer=lambda *_, **__: halves)
    model.compile("sgd", loss=lambda _, p: 0.0 * keras.ops.mean(p))
    with pytest.raises(ValueError, match="the same magnitude"):
        keras_pep.search(model, batches, budgets=[100], epochs=1)


def test_budgets_are_whole_numbers_of_any_kind(batches, tmp_path):
    with pytest.raises(ValueError, match=r"whole number.*60\.5"):
        keras_pep.search(fm(), batches, budgets=[60.5])
    (ticket,) = keras_pep.search(
        fm(), batches, budgets=np.array([60]), epochs=1
    )
    ticket.save(tmp_path / "a.npz")
    assert keras_pep.Ticket.load(tmp_path / "a.npz").budget == 60


def test_an_epoch_of_unknown_length_is_refused(batches):
    endless = batches.filter(lambda *_: True)
    with pytest.raises(ValueError, match="how long an epoch is"):
        keras_pep.search(fm(), endless, budgets=[60], epochs=1)


def test_a_loss_of_ones_own_and_adapted_normalization(batches):
    def my_loss(y, p):
        return keras.losses.binary_crossentropy(y, p, from_logits=True)

    inputs = keras.Input((2,), dtype="int32")
    scale = keras.layers.Normalization()
    scale.adapt(np.array([[7.0, 9.0], [3.0, 5.0]]))
    table = keras_pep.PEPEmbedding(10, 4, name="table")(inputs)
    hidden = keras.layers.Flatten()(table)
    hidden = keras.layers.Concatenate()([hidden, scale(inputs)])
    model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
    model.compile(keras_pep.optimizers.AdamL2(), my_loss)
    (ticket,) = keras_pep.search(model, batches, budgets=[20], epochs=1)
    small = keras_pep.retrain(model, ticket, batches, epochs=1)
    assert small.loss is my_loss
    layer = next(
        x for x in small.layers if isinstance(x, keras.layers.Normalization)
    )
    # Mean (5, 7), deviation 2.
    np.testing.assert_allclose(layer(np.array([[9.0, 7.0]])), [[2.0, 0.0]])


def test_regularizers_go_along_and_constraints_are_refused(batches):
    model = fm(embeddings_regularizer=keras.regularizers.L1(0.5))
    (ticket,) = keras_pep.search(model, batches, budgets=[60], epochs=1)
    small = pruned_model(model, ticket)
    values = small.embedding.values.numpy()
    small(np.zeros((1, 2)))
    assert float(small.losses[0]) == pytest.approx(0.5 * abs(values).sum())
    model = fm(embeddings_constraint="non_neg", name=model.embedding.name)
    model.build()
    with pytest.raises(ValueError, match="no constraints"):
        pruned_model(model, keras_pep.Ticket(dict(ticket.tables)))


def test_the_clock_starts_at_zero(batches):
    model = fm()
    model.build()
    model.embedding.clock.assign(5.0)
    (ticket,) = keras_pep.search(model, batches, budgets=[60], epochs=2)
    assert ticket.step > 0.3 * 2 * STEPS  # not before learning


@pytest.mark.parametrize("method", ["budget", "magnitude", "paper"])
def test_l2_pulls_thresholds_in_the_papers_search_alone(batches, method):
    """Of a feature that no example has, they move by L2 or not at all."""
    seen = batches.map(lambda ids, y: (tf.minimum(ids, 8), y))
    model = fm(granularity="feature_dimension", threshold_init=-5.0)
    model.compile(keras_pep.optimizers.AdamL2(0.02), model.loss)
    try:
        keras_pep.search(model, seen, budgets=[60], epochs=1, method=method)
    except BudgetNotReachedWarning:
        assert method == "paper"
    logits = model.embedding.threshold_logits.numpy()[9]
    # 40 steps of one learning rate each.
    expected = -5.0 + (0.8 if method == "paper" else 0.0)
    np.testing.assert_allclose(logits, expected, atol=0.02)


def test_a_small_model_is_trained_with_an_optimizer_of_its_own(batches):
    model = fm()
    (ticket,) = keras_pep.search(model, batches, budgets=[60], epochs=1)
    falling = keras.optimizers.schedules.PolynomialDecay(0.1, 2 * STEPS, 0.0)
    optimizer = keras_pep.optimizers.AdamL2(falling, l2=0.25)
    small = keras_pep.retrain(
        model, ticket, batches, optimizer=optimizer, epochs=1
    )
    assert small.optimizer is not optimizer
    assert not optimizer.built
    assert small.optimizer.l2 == 0.25
    # Halfway down.
    assert float(small.optimizer.learning_rate) == pytest.approx(0.05)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.02)


def test_rare_features_win_no_places_for_being_idle():
    """The tickets of `LazyAdam` are those of `AdamL2`, or nearly."""
    random = np.random.default_rng(0)
    shape = 60 * 16, 2
    ids = (random.zipf(1.3, shape) % 200).astype("int32")
    labels = (ids.sum(axis=1, keepdims=True) % 2).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((ids, labels)).batch(16)

    class Stale(keras_pep.optimizers.LazyAdam):
        def catch_up(self):
            pass

    masks = []
    for optimizer in (
        keras_pep.optimizers.AdamL2(1e-3, l2=1e-4),
        keras_pep.optimizers.LazyAdam(1e-3, l2=1e-4),
        Stale(1e-3, l2=1e-4),
    ):
        keras.utils.set_random_seed(0)
        model = keras_pep.models.FM((200, 200), 4)
        model.compile(
            optimizer, keras.losses.BinaryCrossentropy(from_logits=True)
        )
        (ticket,) = keras_pep.search(
            model, data, budgets=[300], epochs=1, method="magnitude"
        )
        masks.append(ticket.tables["embedding"].mask())
    dense, lazy, stale = masks
    assert (dense & lazy).sum() > 0.95 * 300
    assert (dense & stale).sum() < 0.75 * 300


@pytest.mark.skip_on_torch("other values are drawn")
def test_what_is_kept_is_counted_after_an_epoch(monkeypatch):
    """Within it, of a table that is sampled, it is an estimate."""
    monkeypatch.setattr(clock, "_ENTRIES_TO_SAMPLE", 64)
    random = np.random.default_rng(0)
    ids = random.integers(0, 50, (20 * 16, 2)).astype("int32")
    labels = (ids.sum(axis=1, keepdims=True) % 2).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((ids, labels)).batch(16)
    rows, counted = [], []

    class Count(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            counted.append(self.model.embedding.nonzero_parameters())

    model = keras_pep.models.FM((50, 50), 4)
    model.compile(
        keras_pep.optimizers.LazyAdam(1e-2, l2=1e-4),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    model.build()
    collector = make_collector("budget", [40], 2)
    over_steps = KeptOverSteps(collector, "search", rows)
    history = model.fit(
        data,
        epochs=2,
        verbose=0,
        shuffle=False,
        callbacks=[collector, Count(), over_steps],
    ).history
    assert history["embedding_parameters"] == counted
    assert 38 <= counted[1] <= 40
    ends = [row for row in rows if row["step"] in (20, 40)]
    within = [row for row in rows if 9 < row["step"] < 20]
    assert {row["embedding_parameters"] for row in ends} >= set(counted)
    last = {row["step"]: row for row in rows}  # an epoch ends with a count
    assert [last[step]["standard_error"] for step in (20, 40)] == [0, 0]
    assert within
    assert all(row["standard_error"] > 0 for row in within)
