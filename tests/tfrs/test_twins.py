"""Every class of `tf_keras` against its twin in Keras 3."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import keras_pep
import keras_pep.tfrs as pep
from keras_pep import runtime
from keras_pep.thresholds import GRANULARITIES
from tests.tfrs.conftest import SIZES

MODELS = {
    "LogisticRegression": {},
    "FM": {"embedding_dim": 8, "linear": "pep"},
    "DeepFM": {"embedding_dim": 8, "hidden_units": [6, 5]},
    "FvFM": {"embedding_dim": 8},
    "GEM": {"embedding_dim": 8},
    "DCN": {"embedding_dim": 8, "hidden_units": [6, 5]},
    "AutoInt": {
        "embedding_dim": 8,
        "attention_units": 6,
        "attention_dropout": 0.1,
        "hidden_units": [5],
    },
}


def twins(name, **settings):
    """A model of either Keras, built, with other weights."""
    made = []
    for models in (keras_pep.models, pep.models):
        model = getattr(models, name)(SIZES, **MODELS[name], **settings)
        model.build()
        made.append(model)
    return made


def moved(model, twin, tmp_path):
    """Moves the weights of a model to its twin."""
    path = str(tmp_path / "model.weights.h5")
    model.save_weights(path)
    twin.load_weights(path)


def scores(model, ids):
    return model.predict(ids, batch_size=500, verbose=0)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_the_same_table_and_gradients(granularity):
    """To 1e-6: both add float32 up in the order that TensorFlow takes."""
    made = [
        of.PEPEmbedding(
            *(60, 4),
            granularity=granularity,
            field_sizes=SIZES,
            threshold_init=-4.0,
            embeddings_initializer=keras.initializers.RandomNormal(seed=3),
        )
        for of in (keras_pep, pep)
    ]
    ids = np.array([[3, 3, 55], [0, 29, 59]], np.int32)
    found = []
    for layer in made:
        with tf.GradientTape() as tape:
            vectors = layer(ids)
            loss = tf.reduce_sum(vectors**3)
        weights = [
            getattr(w, "value", w) if isinstance(w, keras.Variable) else w
            for w in layer.trainable_weights
        ]
        gradients = tape.gradient(loss, weights)
        found.append([vectors, *(tf.convert_to_tensor(g) for g in gradients)])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=0)
    assert np.any(found[0][1]), "no gradient at all"
    np.testing.assert_array_equal(
        made[0].initial_embeddings(), made[1].initial_embeddings()
    )
    np.testing.assert_array_equal(made[0].sparsity(), made[1].sparsity())


@pytest.mark.parametrize(
    "given",
    ["uniform", "tf_keras", "keras"],
)
def test_a_seed_gives_the_values_of_keras_3(given):
    initializer = {
        "uniform": "uniform",
        "tf_keras": tf_keras.initializers.RandomNormal(stddev=0.1, seed=5),
        "keras": keras.initializers.RandomNormal(stddev=0.1, seed=5),
    }[given]
    layer = pep.PEPEmbedding(7, 3, embeddings_initializer=initializer)
    layer.build()
    values = layer.embeddings.numpy()
    np.testing.assert_array_equal(values, layer.initial_embeddings())
    if given != "uniform":
        expected = keras.initializers.RandomNormal(stddev=0.1, seed=5)((7, 3))
        np.testing.assert_array_equal(values, expected)
    again = pep.PEPEmbedding.from_config(layer.get_config())
    np.testing.assert_array_equal(values, again.initial_embeddings())


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_weights_move_both_ways(name, rows, tmp_path):
    """To 1e-6, some ulp of the logits: sums are in different kernels."""
    ids, _ = rows
    ours, theirs = twins(name)
    for model, twin in ((ours, theirs), (theirs, twins(name)[0])):
        expected = scores(model, ids)
        assert np.abs(expected - scores(twin, ids)).max() > 1e-3
        moved(model, twin, tmp_path)
        np.testing.assert_allclose(scores(twin, ids), expected, atol=1e-6)


def test_pruned_weights_move_both_ways(tmp_path):
    """Those of a `PrunedEmbedding`, and of a table under a mask, exactly."""
    random = np.random.default_rng(0)
    table = random.normal(size=(50, 8)) * (random.random((50, 8)) < 0.2)
    ids = np.arange(50)
    ours = keras_pep.PrunedEmbedding.from_dense(table)
    theirs = pep.PrunedEmbedding(**_settings(ours))
    source = keras.Sequential([keras.Input((), dtype="int32"), ours])
    target = tf_keras.Sequential(
        [tf_keras.layers.Input((), dtype=tf.int32), theirs]
    )
    moved(source, target, tmp_path)
    np.testing.assert_array_equal(ours(ids), theirs(ids))
    assert theirs.sparse().values.size == np.count_nonzero(table)

    masked = pep.PEPEmbedding(50, 8)
    masked.build()
    masked.assign_sparse(theirs.sparse())
    source = tf_keras.Sequential(
        [tf_keras.layers.Input((), dtype=tf.int32), masked]
    )
    searched = keras_pep.PEPEmbedding(50, 8)
    target = keras.Sequential([keras.Input((), dtype="int32"), searched])
    moved(source, target, tmp_path)
    np.testing.assert_array_equal(searched(ids), ours(ids))
    assert searched.frozen


def _settings(layer):
    config = layer.get_config()
    return {k: v for k, v in config.items() if k not in ("dtype", "trainable")}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["AdamL2", "LazyAdam", "RowwiseAdagrad"])
def test_the_same_steps(name, rows, tmp_path):
    """Forty steps on the same batches: to 1e-5 of values around 0.1."""
    ids, labels = rows
    ours, theirs = twins("FM")
    moved(ours, theirs, tmp_path)
    loss = {"from_logits": True}
    ours.compile(
        getattr(keras_pep.optimizers, name)(0.01, l2=1e-3),
        keras.losses.BinaryCrossentropy(**loss),
    )
    theirs.compile(
        getattr(pep.optimizers, name)(0.01, l2=1e-3),
        tf_keras.losses.BinaryCrossentropy(**loss),
    )
    data = tf.data.Dataset.from_tensor_slices((ids, labels)).batch(50)
    before = scores(ours, ids)
    for model in (ours, theirs):
        model.fit(data, verbose=0, shuffle=False)
    assert np.abs(scores(ours, ids) - before).max() > 0.1
    np.testing.assert_allclose(
        ours.embedding.embeddings.numpy(),
        theirs.embedding.embeddings.numpy(),
        atol=1e-5,
    )
    np.testing.assert_allclose(
        ours.embedding.threshold_logits.numpy(),
        theirs.embedding.threshold_logits.numpy(),
        atol=1e-5,
    )


@pytest.mark.parametrize("kind", ["LazyAdam", "RowwiseAdagrad"])
def test_other_rows_are_left_alone(kind):
    layer = pep.PEPEmbedding(10, 4)
    model = tf_keras.Sequential([layer])
    model.compile(getattr(pep.optimizers, kind)(0.1), "mse")
    ids = np.array([[2], [5], [2]])
    model(ids)
    before = layer.embeddings.numpy()
    model.fit(ids, np.ones((3, 1, 4)), verbose=0)
    changed = np.any(layer.embeddings.numpy() != before, axis=1)
    assert np.flatnonzero(changed).tolist() == [2, 5]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, "LazyAdam") for name in MODELS), ("FM", "RowwiseAdagrad")],
)
def test_a_saved_model_is_the_same_again(name, kind, rows, tmp_path):
    ids, labels = rows
    _, model = twins(name)
    ranking = pep.RankingModel(model)
    ranking.compile(getattr(pep.optimizers, kind)(1e-2))
    data = tf.data.Dataset.from_tensor_slices((ids, labels)).batch(500)
    ranking.fit(data, verbose=0)
    path = tmp_path / "model.keras"
    ranking.save(path)
    again = tf_keras.models.load_model(path)
    np.testing.assert_array_equal(scores(again, ids), scores(ranking, ids))
    again.fit(data, verbose=0)  # with its optimizer


def test_keras_3_reads_the_files_of_its_twins(rows, tmp_path):
    ids, _ = rows
    for name in MODELS:
        _, model = twins(name)
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        assert isinstance(again, getattr(keras_pep.models, name))
        np.testing.assert_allclose(
            scores(again, ids), scores(model, ids), atol=1e-6
        )


def test_tf_keras_says_that_a_file_is_of_keras_3(tmp_path):
    ours, _ = twins("FM")
    ours.save(tmp_path / "model.keras")
    with pytest.raises(TypeError, match="configuration of a Keras 3 layer"):
        tf_keras.models.load_model(tmp_path / "model.keras")


class Ours(keras.Model):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, inputs):
        return self.layer(inputs)


class Theirs(tf_keras.Model):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, inputs):
        return self.layer(inputs)


class OursByLoss(Ours):
    def compute_loss(self, x=None, y=None, **_):
        return keras.ops.mean(self.layer(x) ** 2)


class TheirsByStep(Theirs):
    def train_step(self, data):
        self.layer(data[0])
        return {}


IDS = np.zeros((2, 3), np.int32)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ours(pep.PEPEmbedding(3, 2))(IDS), "Ours is of Keras 3"),
        (
            lambda: Theirs(keras_pep.PEPEmbedding(3, 2))(IDS),
            "Theirs is of `tf_keras`",
        ),
        (
            lambda: Ours(pep.models.FM([3, 3, 3], 2))(IDS),
            "Ours is of Keras 3",
        ),
        (
            lambda: Ours(pep.PrunedEmbedding.from_dense(np.ones((3, 2))))(IDS),
            "Ours is of Keras 3",
        ),
        (
            lambda: pep.PEPEmbedding(3, 2)(keras.Input((3,), dtype="int32")),
            "KerasTensor is of Keras 3",
        ),
        (
            lambda: keras_pep.PEPEmbedding(3, 2)(
                tf_keras.Input((3,), dtype="int32")
            ),
            "KerasTensor is of `tf_keras`",
        ),
        (
            lambda: _fitted(
                Ours(keras_pep.PEPEmbedding(3, 2)),
                pep.PEPRetraining(budget=2),
            ),
            "Ours is of Keras 3",
        ),
        (
            lambda: _fitted(
                Theirs(pep.PEPEmbedding(3, 2)),
                keras_pep.callbacks.PEPRetraining(budget=2),
            ),
            "Theirs is of `tf_keras`",
        ),
        (
            lambda: _fitted(OursByLoss(pep.PEPEmbedding(3, 2))),
            "OursByLoss is of Keras 3",
        ),
        (
            lambda: _fitted(TheirsByStep(keras_pep.PEPEmbedding(3, 2))),
            "TheirsByStep is of `tf_keras`",
        ),
        (
            lambda: keras_pep.search(
                Theirs(pep.PEPEmbedding(3, 2)), None, budgets=[1]
            ),
            "keras_pep.tfrs.PEPRetraining",
        ),
    ],
)
def test_what_is_of_the_other_keras_is_refused(make, message):
    with pytest.raises(TypeError, match=message):
        make()


@pytest.mark.parametrize(
    ("outer", "package", "message"),
    [
        (Ours, pep, "Ours is of Keras 3"),
        (Theirs, keras_pep, "Theirs is of `tf_keras`"),
    ],
)
def test_a_layer_that_was_called_before_is_refused_all_the_same(
    outer, package, message
):
    layer = package.PEPEmbedding(3, 2)
    layer(IDS)
    with pytest.raises(TypeError, match=message):
        outer(layer)(IDS)
    with pytest.raises(TypeError, match=message):
        _fitted(outer(layer))


def test_the_stack_is_read_once_a_layer(monkeypatch):
    asked = []

    def stepping(other):
        asked.append(other)

    monkeypatch.setattr(runtime, "_stepping", stepping)
    layers = keras_pep.PEPEmbedding(3, 2), pep.PEPEmbedding(3, 2)
    for _ in range(3):
        for layer in layers:
            layer(IDS)
    assert asked == [tf_keras, keras]


def _fitted(model, *callbacks):
    model.compile("adam", "mse")
    model.fit(IDS, np.zeros((2, 3, 2)), callbacks=[*callbacks], verbose=0)


def test_a_model_may_be_called_within_the_fit_of_the_other():
    """By a callback: nothing is part of anything."""
    inner = Theirs(pep.PEPEmbedding(3, 2))

    class Calls(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["norm"] = float(np.sum(inner(IDS) ** 2))

    model = Ours(keras_pep.PEPEmbedding(3, 2))
    model.compile("adam", "mse")
    history = model.fit(
        IDS, np.zeros((2, 3, 2)), callbacks=[Calls()], verbose=0
    )
    assert history.history["norm"][0] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_wrong_id_is_an_error_or_its_row_is_nan(name):
    """An id of the next field, the one before, and one of 64 bits."""
    model = getattr(pep.models, name)(SIZES, **MODELS[name])
    model.build()
    model.compile("sgd", tf_keras.losses.BinaryCrossentropy(from_logits=True))
    ids = np.array([[3, 4, 5], [0, 1, 2], [29, 19, 9]])
    labels = np.ones((3, 1), "float32")
    right = model(ids).numpy()
    for wrong in (30, -1, 2**32 + 1):
        others = ids.copy()
        others[1, 0] = wrong
        expected = (
            rf"Found: {wrong} in field 0 .column 0.. Expected: .*\[0, 30\)"
        )
        for call in (
            model,
            lambda x: model.predict(x, verbose=0),
            lambda x: model.fit(x, labels, verbose=0),
            lambda x: model.evaluate(x, labels, verbose=0),
        ):
            with pytest.raises(tf.errors.InvalidArgumentError, match=expected):
                call(others)
        found = tf.function(model, jit_compile=True)(tf.constant(others))
        assert np.isnan(found[1, 0])
        # XLA adds float32 up in another order.
        np.testing.assert_allclose(found[0::2], right[0::2], atol=1e-6)


def test_ragged_sparse_and_given_weights():
    table = np.linspace(-1, 1, 20, dtype="float32").reshape(5, 4)
    layer = pep.PEPEmbedding(5, 4, weights=[table])
    inputs = tf_keras.Input((None,), dtype="int32", ragged=True)
    model = tf_keras.Model(inputs, layer(inputs))
    lists = [[3, 0], [], [4, 4, 2]]
    # A threshold of 3e-7, in float32.
    np.testing.assert_allclose(
        model(tf.ragged.constant(lists)).flat_values,
        table[[3, 0, 4, 4, 2]],
        atol=1e-6,
    )
    np.testing.assert_allclose(
        layer(tf.sparse.from_dense([[1, 2], [3, 0]])),
        table[[[1, 2], [3, 0]]],
        atol=1e-6,
    )
    layer.set_weights([2 * table])
    np.testing.assert_array_equal(layer.get_weights()[0], 2 * table)
    np.testing.assert_array_equal(layer.initial_embeddings(), table)
