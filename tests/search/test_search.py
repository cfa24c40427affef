import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_pep
from keras_pep.search import BudgetNotReachedWarning, pruned_model
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
    assert [t.embedding_parameters for t in tickets] == [100, 99, 60, 20]
    assert tickets[-1].sparsity == pytest.approx(1 - 20 / TABLE)
    assert 0.3 * 4 * STEPS < tickets[0].step < tickets[-1].step <= 4 * STEPS
    # A smaller ticket need not be part of a larger one, but mostly is.
    large, small = (next(iter(t.tables.values())).mask() for t in tickets[::3])
    assert (large & small).sum() > 0.8 * small.sum()


def test_schedule_reaches_its_budget_when_epochs_are_very_short(batches):
    tickets = keras_pep.search(
        fm(), batches.take(1), budgets=[10], epochs=3, method="budget"
    )
    # After three steps lifetimes are so close that float32 may not tell two
    # apart; then one entry fewer is kept, never one more.
    assert [t.embedding_parameters for t in tickets] in ([9], [10])


def test_paper_method_takes_the_ticket_at_the_step_it_is_passed(batches):
    counts = {}

    class Count(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            step = int(self.model.optimizer.iterations.numpy())
            counts[step] = self.model.embedding.nonzero_parameters()

    tickets = keras_pep.search(
        fm(threshold_init=-6.0, l2=0.01),
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
    model.linear.kernel.assign(np.full((20, 1), 0.25))
    (ticket,) = keras_pep.search(model, batches, budgets=[60], epochs=2)

    small = pruned_model(model, ticket)
    mask = ticket.tables["pep_embedding"].mask()
    np.testing.assert_array_equal(
        small.embedding(np.arange(20)), initial * mask
    )
    np.testing.assert_array_equal(small.linear.kernel, np.full((20, 1), 0.25))

    small = keras_pep.retrain(model, ticket, batches, epochs=3)
    after = small.embedding(np.arange(20)).numpy()
    np.testing.assert_array_equal(after != 0, mask)
    assert (after != initial)[mask].all()
    ids, labels = next(iter(batches.unbatch().batch(10**6)))
    figures = keras_pep.metrics.evaluate(
        small, ids.numpy(), labels.numpy()[:, 0]
    )
    assert figures["auc"] > 0.99  # a checkerboard of rank 1 fits into 60


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
    assert small.count_params() < model.count_params()
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
    with pytest.raises(ValueError, match="not of this model"):
        pruned_model(other, ticket)
    more = keras_pep.Ticket(ticket.tables, (*ticket.weights, np.ones(3)))
    with pytest.raises(ValueError, match="not of this model"):
        pruned_model(model, more)
