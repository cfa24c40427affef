"""Models as somebody would write them who has only read the README."""

import keras
import keras_rs
import numpy as np
import pytest
import tensorflow as tf

import keras_pep


@pytest.fixture
def rows():
    """Users like items of their own group: learnable by pairs only."""
    random = np.random.default_rng(0)
    user = random.integers(0, 200, size=20_000).astype("int32")
    item = random.integers(0, 100, size=20_000).astype("int32")
    likes = ((user + item) % 4 == 0).astype("float32")
    return {"user": user, "item": item}, likes[:, None]


@pytest.fixture
def batches(rows):
    return tf.data.Dataset.from_tensor_slices(rows).batch(200)


def auc(model, rows):
    scores = model.predict(rows[0], batch_size=4096, verbose=0)
    return keras_pep.metrics.auc(rows[1], scores)


@keras.saving.register_keras_serializable(package="stranger")
class TwoTowers(keras.Model):
    """Subclassed; its layers are made in the constructor."""

    def __init__(self, users, items, dim=16, **kwargs):
        super().__init__(**kwargs)
        self.sizes = {"users": users, "items": items, "dim": dim}
        self.users = keras_pep.PEPEmbedding(users, dim, name="users")
        self.items = keras_pep.PEPEmbedding(items, dim, name="items")
        self.user_tower = keras.layers.Dense(dim)
        self.item_tower = keras.layers.Dense(dim)

    def call(self, inputs):
        user = self.user_tower(self.users(inputs["user"]))
        item = self.item_tower(self.items(inputs["item"]))
        return keras.ops.sum(user * item, axis=-1, keepdims=True)

    def get_config(self):
        return {**super().get_config(), **self.sizes}


@pytest.mark.slow
def test_two_towers_in_one_fit(rows, batches, tmp_path):
    model = TwoTowers(200, 100)
    model(rows[0])
    model.compile(
        keras_pep.optimizers.LazyAdam(0.02, l2=1e-5),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    retraining = keras_pep.callbacks.PEPRetraining(sparsity=0.6)
    model.fit(
        batches,
        validation_data=batches,
        epochs=10,
        callbacks=[retraining],
        verbose=0,
        shuffle=False,
    )
    kept = sum(x.nonzero_parameters() for x in (model.users, model.items))
    assert 0.39 * 300 * 16 < kept <= 0.4 * 300 * 16
    assert auc(model, rows) > 0.95

    model.save(tmp_path / "two-towers.keras")
    loaded = keras.saving.load_model(tmp_path / "two-towers.keras")
    np.testing.assert_allclose(
        loaded.predict(rows[0], verbose=0),
        model.predict(rows[0], verbose=0),
        atol=1e-6,
    )
    assert loaded.users.frozen
    assert loaded.users.nonzero_parameters() == model.users.nonzero_parameters()


@pytest.mark.slow
def test_a_deep_and_cross_network_of_keras_rs(rows, batches, tmp_path):
    """Functional: one table a feature, keras-rs layers on top."""
    inputs = {
        name: keras.Input((), dtype="int32", name=name)
        for name in ("user", "item")
    }
    vectors = [
        keras_pep.PEPEmbedding(size, 16, name=f"{name}_table")(inputs[name])
        for name, size in (("user", 200), ("item", 100))
    ]
    deep = keras.layers.Concatenate()(vectors)
    cross = keras_rs.layers.FeatureCross()(deep, deep)
    pairs = keras_rs.layers.DotInteraction()(vectors)
    hidden = keras.layers.Dense(32, activation="relu")(cross)
    hidden = keras.layers.Concatenate()([hidden, pairs])
    model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
    model.compile(
        keras_pep.optimizers.AdamL2(0.01),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )

    (ticket,) = keras_pep.search(model, batches, budgets=[2_000], epochs=6)
    small = keras_pep.retrain(model, ticket, batches, epochs=6)
    small.save(tmp_path / "dcn.keras")

    assert 1_998 <= ticket.embedding_parameters <= 2_000
    assert set(ticket.tables) == {"user_table", "item_table"}
    assert auc(small, rows) > 0.95
    loaded = keras.saving.load_model(tmp_path / "dcn.keras")
    np.testing.assert_allclose(
        loaded.predict(rows[0], verbose=0),
        small.predict(rows[0], verbose=0),
        atol=1e-6,
    )


def test_one_table_looked_up_twice():
    """A shared table gets gradients from both look-ups, duplicates summed."""
    ids = keras.Input((2,), dtype="int32")
    table = keras_pep.PEPEmbedding(50, 4, name="table")
    twice = keras.layers.Add()([table(ids[:, 0]), table(ids[:, 1])])
    model = keras.Model(ids, keras.layers.Dense(1, use_bias=False)(twice))
    results = []
    for optimizer in (
        keras_pep.optimizers.LazyAdam(0.01),
        keras_pep.optimizers.AdamL2(0.01, l2=0.0),
    ):
        keras.utils.set_random_seed(0)
        model = keras.models.clone_model(model)
        model.compile(optimizer, "mse")
        # All rows in every batch, so that lazy and dense are the same.
        batch = np.stack([np.arange(50), np.arange(50) // 7], axis=1)
        for _ in range(5):
            model.train_on_batch(batch, np.ones((50, 1)))
        results.append(model.get_layer("table").pruned_embeddings())
    # Five steps of 0.01; float32 keeps seven digits of numbers below 1.
    np.testing.assert_allclose(*results, atol=1e-6)
