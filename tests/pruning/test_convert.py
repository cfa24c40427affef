"""Models of Keras that were trained before anybody thought of pruning."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_pep

USERS, ITEMS, ROWS = 20, 30, 2048


@pytest.fixture(scope="module")
def rows():
    """Whoever is even likes what is even."""
    random = np.random.default_rng(0)
    ids = {
        "user": random.integers(0, USERS, (ROWS, 1)),
        "item": random.integers(0, ITEMS, (ROWS, 1)),
    }
    likes = (ids["user"] + ids["item"]) % 2 == 0
    return ids, likes.astype("float32")


def two_towers():
    """Plain Keras: nothing of this package."""
    inputs = {
        name: keras.Input((1,), dtype="int32", name=name)
        for name in ("user", "item")
    }
    towers = []
    for name, size in (("user", USERS), ("item", ITEMS)):
        table = keras.layers.Embedding(size, 8, name=f"{name}_table")
        vector = keras.layers.Flatten()(table(inputs[name]))
        towers.append(keras.layers.Dense(8, name=f"{name}_tower")(vector))
    model = keras.Model(inputs, keras.layers.Dot(1)(towers))
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=["binary_accuracy"],
    )
    return model


@pytest.fixture(scope="module")
def trained(rows):
    keras.utils.set_random_seed(0)
    model = two_towers()
    model.fit(*rows, epochs=15, verbose=0)
    return model


def accuracy(model, rows):
    logits = model.predict(rows[0], verbose=0)
    return float(np.mean((logits > 0) == rows[1]))


def test_converted_model_is_the_same_with_thresholds(trained, rows):
    made = keras_pep.convert(trained, threshold_init=-40.0)
    for name in ("user_table", "item_table"):
        layer = made.get_layer(name)
        assert isinstance(layer, keras_pep.PEPEmbedding)
        np.testing.assert_array_equal(
            layer.initial_embeddings(), trained.get_layer(name).embeddings
        )
    np.testing.assert_allclose(
        made.predict(rows[0], verbose=0),
        trained.predict(rows[0], verbose=0),
        atol=1e-6,
    )
    assert made.compiled
    assert int(made.optimizer.iterations) == 0
    assert float(made.optimizer.learning_rate) == pytest.approx(0.01)


def test_search_and_retraining_start_from_what_was_learned(trained, rows):
    before = accuracy(trained, rows)
    assert before > 0.95
    made = keras_pep.convert(trained)
    (ticket,) = keras_pep.search(made, rows, rows, sparsity=0.5, epochs=4)
    assert ticket.embedding_parameters == (USERS + ITEMS) * 8 // 2
    untrained = keras_pep.pruned_model(made, ticket)
    for name in ("user_table", "item_table"):
        small = untrained.get_layer(name).sparse()
        table = np.asarray(trained.get_layer(name).embeddings)
        np.testing.assert_array_equal(
            small.to_dense(), np.where(small.mask(), table, 0)
        )
    for name in ("user_tower", "item_tower"):  # dense layers, too
        np.testing.assert_array_equal(
            untrained.get_layer(name).kernel, trained.get_layer(name).kernel
        )
    small = keras_pep.retrain(made, ticket, rows, epochs=4)
    assert accuracy(small, rows) > before - 0.02


def test_pruned_in_one_call(trained, rows, tmp_path):
    small = keras_pep.prune(trained, rows, rows, max_bytes="1kB", epochs=4)
    tables = [small.get_layer(name) for name in ("user_table", "item_table")]
    assert sum(table.layout.bytes for table in tables) <= 1000
    # A float32 takes 4 bytes; a byte of bits a row, and starts, are besides.
    assert sum(table.num_values for table in tables) > 200
    assert accuracy(small, rows) > 0.95
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    assert accuracy(loaded, rows) == accuracy(small, rows)
    assert isinstance(trained.get_layer("user_table"), keras.layers.Embedding)


@pytest.fixture
def frozen(trained):
    """The trained model, of which one table is frozen."""
    model = keras.models.clone_model(trained)
    model.set_weights(trained.get_weights())
    model.get_layer("user_table").trainable = False
    model.compile(keras.optimizers.Adam(0.01), trained.loss)
    return model


def test_a_frozen_table_is_left_alone(frozen, rows):
    small = keras_pep.prune(frozen, rows, sparsity=0.3, epochs=1)
    layer = small.get_layer("user_table")
    assert isinstance(layer, keras.layers.Embedding)
    np.testing.assert_array_equal(
        layer.embeddings, frozen.get_layer("user_table").embeddings
    )
    frozen.get_layer("item_table").trainable = False
    with pytest.raises(ValueError, match="frozen one has to be named"):
        keras_pep.prune(frozen, rows, sparsity=0.3, epochs=1)


def test_a_frozen_table_is_pruned_and_not_trained(trained, frozen, rows):
    model = keras_pep.convert(frozen, ["user_table", "item_table"])
    small = keras_pep.prune(model, rows, sparsity=0.3, epochs=1)
    kept = small.get_layer("user_table").sparse()
    table = np.asarray(trained.get_layer("user_table").embeddings)
    assert kept.values.size >= 40  # of 280, and the other table has 240
    np.testing.assert_array_equal(
        kept.to_dense(), np.where(kept.mask(), table, 0)
    )
    assert not small.get_layer("user_table").trainable
    assert small.get_layer("item_table").trainable


def test_without_epochs_of_retraining_there_is_none(trained, rows):
    small = keras_pep.prune(
        trained, rows, sparsity=0.5, epochs=1, retrain_epochs=0
    )
    np.testing.assert_array_equal(
        small.get_layer("user_tower").kernel,
        trained.get_layer("user_tower").kernel,
    )


@pytest.mark.filterwarnings("ignore::keras_pep.pruning.BudgetNotReachedWarning")
def test_a_size_that_is_not_reached_is_an_error(trained, rows):
    with pytest.raises(ValueError, match="more `epochs`"):
        keras_pep.prune(trained, rows, sparsity=0.5, epochs=0)


def test_a_constraint_is_refused_before_the_search():
    ids = keras.Input((), dtype="int32")
    norm = keras.constraints.MaxNorm(1.0)
    table = keras.layers.Embedding(20, 4, embeddings_constraint=norm, name="t")
    model = keras.Model(ids, keras.layers.Dense(1)(table(ids)))
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"has no constraints.* of 't'"):
        keras_pep.prune(model, "nothing to train on", sparsity=0.5)


def test_some_layers_alone(trained):
    made = keras_pep.convert(trained, ["item_table"], granularity="feature")
    assert type(made.get_layer("user_table")) is keras.layers.Embedding
    assert made.get_layer("item_table").granularity == "feature"
    np.testing.assert_array_equal(
        made.get_layer("user_table").embeddings,
        trained.get_layer("user_table").embeddings,
    )
    layer = trained.get_layer("user_table")
    made = keras_pep.convert(trained, [layer])
    assert isinstance(made.get_layer("user_table"), keras_pep.PEPEmbedding)


@pytest.mark.parametrize(
    "kind", ["FM", "FvFM", "GEM", "DeepFM", "DCN", "AutoInt"]
)
def test_dense_models_of_this_package(kind):
    model = getattr(keras_pep.models, kind)((5, 7), 4, embedding="dense")
    model.build()
    ids = np.array([[4, 6], [0, 0]])
    made = keras_pep.convert(model, threshold_init=-40.0)
    assert isinstance(made.embedding, keras_pep.PEPEmbedding)
    np.testing.assert_allclose(made(ids), model(ids), atol=1e-6)


def test_what_cannot_be_converted_is_refused():
    inputs = keras.Input((3,), dtype="int32")
    none = keras.Model(inputs, keras.layers.Rescaling(2.0)(inputs))
    with pytest.raises(ValueError, match=r"no layer to convert.*Found: none"):
        keras_pep.convert(none)
    model = keras.Model(
        inputs, keras.layers.Embedding(5, 4, name="table")(inputs)
    )
    with pytest.raises(ValueError, match=r"no layer 'other'.*\['table'\]"):
        keras_pep.convert(model, ["other"])
    model.get_layer("table").quantize("int8")
    with pytest.raises(ValueError, match="'table' is quantized"):
        keras_pep.convert(model)
    unbuilt = keras.Sequential([keras.layers.Embedding(5, 4, name="table")])
    with pytest.raises(ValueError, match="call the model on a batch first"):
        keras_pep.convert(unbuilt)


def test_a_model_whose_configuration_lacks_the_layer_is_refused():
    @keras.saving.register_keras_serializable("test_convert")
    class Hidden(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.table = keras.layers.Embedding(5, 4, name="table")

        def call(self, ids):
            return self.table(ids)

    model = Hidden()
    model(tf.constant([[1, 2]]))
    with pytest.raises(ValueError, match="not in the configuration"):
        keras_pep.convert(model)
