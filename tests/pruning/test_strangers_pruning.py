"""Short programs of people who prune, as they would write them."""

import keras
import numpy as np
import pytest

import keras_pep
from keras_pep.data.dataset import Split

USERS, ITEMS = 20, 30
LOSS = keras.losses.BinaryCrossentropy(from_logits=True)


@pytest.fixture
def split():
    """Whoever is even likes what is even; labels are `(rows,)`."""
    random = np.random.default_rng(0)
    ids = np.stack(
        [random.integers(0, n, 2048) for n in (USERS, ITEMS)], axis=1
    ).astype("int32")
    return Split(ids, (ids.sum(axis=1) % 2 == 0).astype("float32"))


def accuracy(model, split):
    logits = model.predict(split.ids, verbose=0)[:, 0]
    return np.mean((logits > 0) == split.labels)


def trained(split, optimizer):
    keras.utils.set_random_seed(0)
    model = keras_pep.models.FM((USERS, ITEMS), 8, embedding="dense")
    model.compile(optimizer, LOSS)
    model.fit(split.ids, split.labels, epochs=15, verbose=0)
    return model


def test_a_trained_model_is_pruned_in_one_call(split):
    model = trained(split, keras_pep.optimizers.AdamL2(0.02))
    small = keras_pep.prune(model, split, split, sparsity=0.75, epochs=10)
    (layer,) = (
        layer
        for layer in small._flatten_layers()
        if isinstance(layer, keras_pep.PrunedEmbedding)
    )
    assert layer.sparse().values.size <= 100  # a quarter of 50 x 8
    assert accuracy(small, split) > 0.95


def lazy_for_tables():
    lazy = keras_pep.optimizers.LazyAdam(0.02)
    other = keras.optimizers.SGD(0.02)
    return keras.optimizers.MultiOptimizer(
        lambda x: lazy if "embedding" in x.path else other
    )


@pytest.mark.requires_tensorflow
def test_lazy_adam_for_tables_alone_in_one_fit(split):
    keras.utils.set_random_seed(0)
    model = keras_pep.models.FM((USERS, ITEMS), 8)
    model.compile(lazy_for_tables(), LOSS)
    pruning = keras_pep.callbacks.PEPRetraining(budget=100)
    model.fit(
        *(split.ids, split.labels),
        validation_data=(split.ids, split.labels),
        epochs=20,
        callbacks=[pruning],
        verbose=0,
    )
    (layer,) = keras_pep.pruning.pep_layers(model)
    assert layer.nonzero_parameters() <= 100
    assert accuracy(model, split) > 0.95


def test_lazy_adam_for_tables_alone_in_two_stages(split):
    """Retraining copies the optimizer, so its map is one that Keras saves."""
    keras.utils.set_random_seed(0)
    optimizers = keras.optimizers.OptimizerMap(
        keras.optimizers.SGD(0.02),
        {".*embedding.*": keras_pep.optimizers.LazyAdam(0.02)},
    )
    model = keras_pep.models.FM((USERS, ITEMS), 8)
    model.compile(keras.optimizers.MultiOptimizer(optimizers), LOSS)
    (ticket,) = keras_pep.search(model, split, budgets=[100], epochs=8)
    small = keras_pep.retrain(model, ticket, split, epochs=8)
    assert {type(part) for part in small.optimizer.optimizers} == {
        keras.optimizers.SGD,
        keras_pep.optimizers.LazyAdam,
    }
    assert accuracy(small, split) > 0.95
