import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_pep
from keras_pep.callbacks import PEPRetraining
from keras_pep.pruning import BudgetNotReachedWarning

SIZES, DIM, STEPS = (10, 10), 8, 40


@pytest.fixture
def rows():
    """A checkerboard: two fields, learnable by pairs only."""
    ids = np.random.default_rng(0).integers(0, 10, size=(STEPS * 64, 2))
    labels = (ids.sum(axis=1, keepdims=True) % 2 == 0).astype("float32")
    return ids.astype("int32"), labels


@pytest.fixture
def batches(rows):
    return tf.data.Dataset.from_tensor_slices(rows).batch(64)


def fm(optimizer=None, **layer):
    layer = keras_pep.PEPEmbedding(
        sum(SIZES),
        DIM,
        **{"threshold_init": -5.0, "name": "table", **layer},
    )
    model = keras_pep.models.FM(SIZES, DIM, layer)
    model.build()
    model.compile(
        optimizer or keras_pep.optimizers.AdamL2(0.02),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return model


def fit(model, data, epochs, *callbacks, **arguments):
    return model.fit(
        data,
        epochs=epochs,
        verbose=0,
        shuffle=False,
        callbacks=[*callbacks],
        **arguments,
    )


class Watch(keras.callbacks.Callback):
    """Table and optimizer at the start of every epoch and after each step."""

    def on_train_begin(self, logs=None):
        self.steps, self.kept = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(int(self.model.optimizer.iterations.numpy()))
        self.kept.append(self.model.embedding.nonzero_parameters())


@pytest.mark.parametrize("optimizer", ["AdamL2", "LazyAdam", "RowwiseAdagrad"])
def test_one_fit_searches_rewinds_retrains(rows, batches, tmp_path, optimizer):
    model = fm(getattr(keras_pep.optimizers, optimizer)(0.02, l2=1e-5))
    initial = model.embedding.embeddings.numpy()
    callback = PEPRetraining(60, ticket_path=tmp_path / "a.ticket.npz")
    watch = Watch()
    history = fit(
        model, batches, 6, callback, watch, validation_data=batches
    ).history
    assert 59 <= callback.ticket.embedding_parameters <= 60
    assert callback.ticket.step == 3 * STEPS
    # The optimizer counts its steps from one again.
    assert watch.steps == 2 * list(range(1, 3 * STEPS + 1))
    mask = callback.ticket.tables["table"].mask()
    assert set(watch.kept[3 * STEPS :]) == {int(mask.sum())}
    first, second, *rest = history["embedding_parameters"]
    assert 160 > first > second > rest[0]
    assert rest == 4 * [int(mask.sum())]

    table = model.embedding.pruned_embeddings()
    np.testing.assert_array_equal(table != 0, mask)
    assert (table != initial)[mask].all()
    saved = keras_pep.Ticket.load(tmp_path / "a.ticket.npz")
    np.testing.assert_array_equal(saved.tables["table"].mask(), mask)
    np.testing.assert_array_equal(
        saved.tables["table"].to_dense(), initial * mask
    )
    # Learned again, by what no first-order model can do.
    figures = keras_pep.metrics.evaluate(model, rows[0], rows[1])
    assert figures["auc"] > 0.9


def test_it_is_search_and_retrain_in_place(rows, batches):
    """The same weights as the two functions give."""
    one, two = fm(), fm()
    two.set_weights(one.get_weights())
    two.embedding.embeddings_initializer = one.embedding.embeddings_initializer
    callback = PEPRetraining(60, search_epochs=2, monitor="loss")
    fit(one, batches, 5, callback)
    (ticket,) = keras_pep.search(two, batches, budgets=[60], epochs=2)
    small = keras_pep.retrain(two, ticket, batches, epochs=3)
    np.testing.assert_array_equal(
        callback.ticket.tables["table"].mask(), ticket.tables["table"].mask()
    )
    # Other sums in another order, over 120 steps of 0.02.
    np.testing.assert_allclose(
        one.predict(rows[0], verbose=0),
        small.predict(rows[0], verbose=0),
        atol=1e-3,
    )


def test_the_best_epoch_is_restored_and_patience_ends_fit(rows, batches):
    class Figures(keras.callbacks.Callback):
        """A made-up validation: the second epoch of retraining is best."""

        def on_epoch_end(self, epoch, logs=None):
            logs["val_auc"] = [0.99, 0.98, 0.6, 0.7, 0.7, 0.65, 0.9][epoch]
            if epoch == 3:
                self.best = self.model.predict(rows[0], verbose=0)

    model, figures = fm(), Figures()
    callback = PEPRetraining(60, search_epochs=2, monitor="val_auc", patience=2)
    history = fit(model, batches, 7, figures, callback)
    assert history.epoch == [0, 1, 2, 3, 4, 5]
    assert callback.best == 0.7
    np.testing.assert_array_equal(
        model.predict(rows[0], verbose=0), figures.best
    )


def test_finetuning_goes_on_from_what_the_search_has_left(batches):
    model, seen = fm(), {}

    class First(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if callback.ticket is not None and not seen:
                seen["table"] = self.model.embedding.pruned_embeddings()

    callback = PEPRetraining(
        60, search_epochs=2, start="finetune", monitor="loss"
    )
    fit(model, batches, 3, callback, First())
    learned = callback.ticket.learned_tables()["table"].to_dense()
    np.testing.assert_array_equal(seen["table"], learned)
    assert not np.isin(
        learned[learned != 0], model.embedding.initial_embeddings()
    ).any()


@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.Adagrad(0.05, initial_accumulator_value=0.25),
        keras.optimizers.Nadam(0.05),
        keras.optimizers.SGD(0.05, momentum=0.9),
        keras_pep.optimizers.LazyAdam(0.05, l2=0.1),
    ],
    ids=lambda o: o.name,
)
def test_any_optimizer_starts_afresh(batches, optimizer):
    """Its slots, when retraining begins, are as one just built has them."""
    model = fm(optimizer)
    fresh = type(optimizer).from_config(optimizer.get_config())
    fresh.build(model.trainable_variables)
    found = []

    class First(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if callback.ticket is not None and not found:
                found.extend(v.numpy() for v in self.model.optimizer.variables)

    callback = PEPRetraining(60, search_epochs=1, monitor="loss")
    fit(model, batches, 2, callback, First())
    for value, expected in zip(found, fresh.variables, strict=True):
        np.testing.assert_array_equal(value, expected.numpy())


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_a_lowered_learning_rate_stays_low(batches, policy):
    """In half precision Keras wraps the optimizer in one that scales losses."""

    class Lower(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                self.model.optimizer.learning_rate = 0.005

    rates = []

    class Watched(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            optimizer = self.model.optimizer
            rates.append(float(optimizer.learning_rate))
            steps.append(int(optimizer.iterations.numpy()))

    steps = []
    layer = keras_pep.PEPEmbedding(20, DIM, threshold_init=-5.0, name="table")
    model = keras_pep.models.FM(SIZES, DIM, layer, dtype=policy)
    model.build()
    model.compile(
        keras_pep.optimizers.AdamL2(0.02),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    callback = PEPRetraining(60, search_epochs=2, monitor="loss")
    fit(model, batches.take(4), 3, callback, Lower(), Watched())
    assert rates == pytest.approx([0.02] * 4 + [0.005] * 8)
    assert steps[-4:] == [1, 2, 3, 4]  # all else begins afresh


def test_a_budget_out_of_reach_leaves_the_search_as_it_is(batches):
    model = fm(threshold_init=-15.0)
    callback = PEPRetraining(5, method="paper", monitor="loss")
    with pytest.warns(BudgetNotReachedWarning, match=r"budget 5.*80 steps"):
        history = fit(model, batches, 5, callback)
    assert history.epoch == [0, 1]  # half of them, to search
    assert callback.ticket is None
    assert callback.best is None
    assert model.embedding.nonzero_parameters() == 160


def test_sparsity_instead_of_a_budget(batches):
    callback = PEPRetraining(sparsity=0.75, monitor="loss")
    fit(fm(), batches, 2, callback)
    assert callback.ticket.budget == 40


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({}, "Received: none of them"),
        ({"budget": 9, "sparsity": 0.5}, "'budget': 9, 'sparsity': 0.5"),
        ({"max_bytes": "9 apples"}, "Received: '9 apples'"),
        ({"sparsity": 1.0}, "sparsity=1.0"),
        ({"budget": 9, "start": "reinit"}, "start='reinit'"),
        ({"budget": 9, "mode": "best"}, "mode='best'"),
        ({"budget": 9, "patience": 0}, "patience=0"),
        ({"budget": 9, "search_epochs": 0}, "search_epochs=0"),
        ({"budget": 9, "method": "fast"}, "method='fast'"),
    ],
)
def test_bad_arguments_are_named(arguments, found):
    with pytest.raises(ValueError, match=found):
        PEPRetraining(**arguments)


@pytest.mark.requires_tensorflow
def test_bad_fits_are_refused(batches):
    fit = {"x": batches, "verbose": 0, "shuffle": False}
    with pytest.raises(ValueError, match="epochs=1, search_epochs=1"):
        fm().fit(**fit, epochs=1, callbacks=[PEPRetraining(60)])
    with pytest.raises(ValueError, match="epochs=2, search_epochs=3"):
        fm().fit(
            **fit,
            epochs=6,
            initial_epoch=4,
            callbacks=[PEPRetraining(60, search_epochs=3)],
        )
    with pytest.raises(ValueError, match="160 embedding parameters"):
        fm().fit(**fit, epochs=2, callbacks=[PEPRetraining(160)])
    model = fm()
    model.train_on_batch(*next(iter(batches)))
    with pytest.raises(ValueError, match="a new one"):
        model.fit(**fit, epochs=2, callbacks=[PEPRetraining(60)])


def test_a_figure_that_is_not_there_is_said_at_the_end(batches):
    with pytest.warns(UserWarning, match="had a value of 'val_loss'"):
        fit(fm(), batches, 2, PEPRetraining(60))


def test_validation_now_and_then_is_enough(batches):
    callback = PEPRetraining(60, search_epochs=1)
    fit(fm(), batches, 4, callback, validation_data=batches, validation_freq=2)
    assert callback.best is not None


def test_a_fit_that_is_stopped_too_early_says_so(batches):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    callback = PEPRetraining(60, search_epochs=1, monitor="loss")
    with pytest.warns(UserWarning, match="before retraining began"):
        fit(fm(), batches, 4, callback, Stop())
    assert callback.ticket is not None


def test_an_epoch_that_was_half_search_is_never_the_best(batches):
    """The paper's method passes the budget in the midst of an epoch."""
    model = fm(
        keras_pep.optimizers.AdamL2(0.02, l2=0.01),
        granularity="feature_dimension",
        threshold_init=-6.0,
    )
    callback = PEPRetraining(80, method="paper", monitor="made_up", mode="min")

    class Figures(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["made_up"] = float(epoch)  # falls never: the first is best

    fit(model, batches, 40, Figures(), callback)
    step = callback.ticket.step
    assert step % STEPS
    assert callback.best == step // STEPS + 1


def test_a_schedule_of_ones_own_starts_afresh_too(batches):
    class Warm(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.02 * keras.ops.minimum(1.0, (step + 1) / 10)

    model = fm(keras_pep.optimizers.AdamL2(Warm()))
    callback = PEPRetraining(60, search_epochs=1, monitor="loss")
    fit(model, batches, 3, callback)
    assert int(model.optimizer.iterations.numpy()) == 2 * STEPS


def test_other_compact_tables_go_along(batches):
    """One table is searched, another was pruned before."""
    ids = keras.Input((2,), dtype="int32")
    values = np.random.default_rng(0).normal(size=(10, 4)).astype("float32")
    mask = np.arange(40).reshape(10, 4) % 3 == 0
    vectors = keras.layers.Concatenate()(
        [
            keras_pep.PEPEmbedding(10, 4, name="table")(ids),
            keras_pep.PrunedEmbedding.from_dense(values, mask, name="before")(
                ids
            ),
        ]
    )
    model = keras.Model(
        ids, keras.layers.Dense(1)(keras.layers.Flatten()(vectors))
    )
    model.compile(
        keras_pep.optimizers.AdamL2(0.02),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    callback = PEPRetraining(20, search_epochs=1, monitor="loss")
    fit(model, batches, 2, callback)
    small = keras_pep.pruned_model(model, callback.ticket)
    np.testing.assert_array_equal(
        small.get_layer("before")(np.arange(10)), values * mask
    )
    now = keras_pep.pruned_model(model)
    x = next(iter(batches))[0]
    np.testing.assert_allclose(now(x), model(x), atol=1e-6)


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [
        ("val_auc_1", "max"),
        ("val_recall_at_10", "max"),
        ("val_factorized_top_k/top_100_categorical_accuracy", "max"),
        ("val_ndcg", "max"),
        ("val_loss", "min"),
        ("val_logloss", "min"),
        ("root_mean_squared_error", "min"),
    ],
)
def test_the_names_of_figures_tell_their_direction(monitor, mode):
    assert PEPRetraining(budget=1, monitor=monitor).mode == mode


@pytest.mark.parametrize("monitor", ["val_profit", "accuracy_loss"])
def test_a_figure_of_unknown_direction_is_asked_for(monitor):
    with pytest.raises(ValueError, match="pass 'max' or 'min'"):
        PEPRetraining(budget=1, monitor=monitor)
