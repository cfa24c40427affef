import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

import keras_pep
import keras_pep.tfrs as pep
from tests.serving.serving import in_c_runtime

USERS = np.array([f"user {n}" for n in range(60)])
ITEMS = np.array([f"item {n}" for n in range(45)])


def tower(names, table, kind="string", *, adapted=False):
    lookup, dtype = {
        "string": (tf_keras.layers.StringLookup, tf.string),
        "integer": (tf_keras.layers.IntegerLookup, tf.int64),
    }[kind]
    layer = lookup(vocabulary=None if adapted else names, mask_token=None)
    if adapted:
        layer.adapt(names)
    return tf_keras.Sequential(
        [
            tf_keras.layers.Input((), dtype=dtype),
            layer,
            pep.PEPEmbedding(
                len(names) + 1, 8, granularity="global", name=table
            ),
        ]
    )


def towers(top_k=100):
    return pep.RetrievalModel(
        tower(USERS, "users"), tower(ITEMS, "items"), ITEMS, top_k=top_k
    )


@pytest.fixture(scope="module")
def pairs():
    """Everybody likes three items that follow one another."""
    random = np.random.default_rng(0)
    user = random.integers(0, 60, 3000)
    item = (user + random.integers(0, 3, 3000)) % 45
    return tf.data.Dataset.from_tensor_slices((USERS[user], ITEMS[item]))


def best_of(model, user, count):
    vector = model.user_tower.predict(np.array([user]), verbose=0)
    scores = (vector @ model.item_tower.predict(ITEMS, verbose=0).T)[0]
    order = np.argsort(-scores, kind="stable")[:count]
    return ITEMS[order].tolist(), scores[order]


@pytest.fixture(scope="module")
def trained(pairs):
    keras.utils.set_random_seed(0)
    model = towers(top_k=5)
    model.compile(pep.optimizers.LazyAdam(0.05))
    retraining = pep.PEPRetraining(
        sparsity=0.6,
        search_epochs=5,
        monitor="val_factorized_top_k/top_10_categorical_accuracy",
        mode="max",
    )
    model.fit(
        pairs.batch(100),
        validation_data=pairs.batch(500),
        epochs=12,
        callbacks=[retraining],
        verbose=0,
    )
    return model


def test_what_is_liked_is_found_again(trained):
    kept = sum(
        tower.layers[-1].nonzero_parameters()
        for tower in (trained.user_tower, trained.item_tower)
    )
    assert 0 < kept <= 0.4 * (61 + 46) * 8
    for user in (3, 17, 40):
        found, _ = best_of(trained, USERS[user], 5)
        assert set(found) >= set(ITEMS[np.arange(user, user + 3) % 45])


def test_pruned_saved_and_served(trained, tmp_path):
    """To 1e-6: the same products, added up by another kernel."""
    small = keras_pep.pruned_model(trained)
    for name in ("user_tower", "item_tower"):
        layer = getattr(small, name).layers[-1]
        assert isinstance(layer, pep.PrunedEmbedding)
    small.save(tmp_path / "small.keras")
    again = tf_keras.models.load_model(tmp_path / "small.keras")
    pair = (np.array(["user 3"]), np.array(["item 4"]))
    np.testing.assert_array_equal(again(pair), small(pair))
    np.testing.assert_allclose(small(pair), trained(pair), atol=1e-6)

    made = keras_pep.export_saved_model(again, tmp_path / "1")
    for table in made.report["tables"].values():
        assert table["bytes"] < 0.8 * table["bytes_dense"]
    asked = ["user 3", "user 40", "nobody"]
    answer, empty = in_c_runtime(
        made.path,
        [
            ("serving_default", {"user": np.array(asked, dtype=object)}),
            ("serving_default", {"user": np.array([], dtype=object)}),
        ],
    )
    assert np.shape(answer["items"]) == np.shape(answer["scores"]) == (3, 5)
    assert empty == {"items": [], "scores": []}
    for user, items, scores in zip(
        asked, answer["items"], answer["scores"], strict=True
    ):
        expected, values = best_of(trained, user, 5)
        assert items == expected
        np.testing.assert_allclose(scores, values, atol=1e-5)


def test_users_of_a_wrong_shape_are_refused(trained, tmp_path):
    made = keras_pep.export_saved_model(trained, tmp_path / "1")
    users = np.array([["user 3"], ["user 4"]], dtype=object)
    (answer,) = in_c_runtime(made.path, [("serving_default", {"user": users})])
    expected = "user: expected (rows), found (2, 1)]"
    assert f"[An input has the wrong shape. {expected}" in answer["error"]


def test_an_unknown_user_has_no_scores_and_nobody_else_notices(tmp_path):
    """Users are numbered, and no layer maps others to one that is there."""
    users = tf_keras.Sequential(
        [
            tf_keras.layers.Input((), dtype=tf.int64),
            pep.PEPEmbedding(20, 8, name="users"),
        ]
    )
    items = np.arange(30)
    model = pep.RetrievalModel(
        users, tower(items, "items", "integer"), items, top_k=4
    )
    made = keras_pep.export_saved_model(model, tmp_path / "1")
    right, answer = in_c_runtime(
        made.path,
        [
            ("serving_default", {"user": np.array(asked)})
            for asked in ([3, 0, 7, 0], [3, 20, 7, 2**32 + 1])
        ],
    )
    for row in (0, 2):
        assert answer["items"][row] == right["items"][row]
        assert answer["scores"][row] == right["scores"][row]
        assert np.isfinite(right["scores"][row]).all()
    for row in (1, 3):
        assert np.isnan(answer["scores"][row]).all()


@pytest.mark.slow
def test_items_are_scored_some_at_a_time(trained, monkeypatch, tmp_path):
    monkeypatch.setattr("keras_pep.tfrs.retrieval._AT_ONCE", 7)
    made = keras_pep.export_saved_model(trained, tmp_path / "1")
    (answer,) = in_c_runtime(
        made.path, [("serving_default", {"user": np.array(USERS, object)})]
    )
    for user, items in zip(USERS, answer["items"], strict=True):
        assert items == best_of(trained, user, 5)[0]


def test_names_may_be_numbers_and_fewer_than_asked_for(tmp_path):
    users, items = np.arange(100, 130), np.array([7, 5, 9])
    model = pep.RetrievalModel(
        tower(users, "users", "integer"),
        tower(items, "items", "integer"),
        items,
    )
    made = keras_pep.export_saved_model(model, tmp_path / "1")
    (answer,) = in_c_runtime(
        made.path, [("serving_default", {"user": np.array([103, 1])})]
    )
    assert np.shape(answer["items"]) == (2, 3)
    assert set(answer["items"][0]) == {5, 7, 9}
    assert answer["scores"][0] == sorted(answer["scores"][0], reverse=True)


def test_the_softmax_is_corrected_for_how_likely_items_are():
    """Against NumPy: logits less log-probabilities, no accidental hits."""
    model = towers()
    users, items = USERS[[0, 1, 2]], ITEMS[[4, 4, 9]]
    chances = np.array([0.5, 0.5, 0.1], np.float32)
    loss = model.compute_loss((users, items, chances), training=True)
    scores = (
        model.user_tower.predict(users, verbose=0)
        @ model.item_tower.predict(items, verbose=0).T
    ) - np.log(chances)
    scores[0, 1] = scores[1, 0] = -np.inf
    expected = np.sum(np.log(np.exp(scores).sum(axis=1)) - np.diag(scores))
    assert float(loss) == pytest.approx(expected, rel=1e-5)


class Tutorial(tfrs.Model):
    """As TFRS' retrieval tutorial has it, with no `call`."""

    def __init__(self):
        super().__init__()
        self.user_model = tower(USERS, "users")
        self.movie_model = tower(ITEMS, "items")
        items = tf.data.Dataset.from_tensor_slices(ITEMS)
        self.task = tfrs.tasks.Retrieval(
            metrics=tfrs.metrics.FactorizedTopK(
                items.batch(45).map(self.movie_model), ks=[5]
            )
        )

    def compute_loss(self, features, training=False):
        return self.task(
            self.user_model(features["user_id"]),
            self.movie_model(features["movie_title"]),
            compute_metrics=not training,
        )


@pytest.mark.slow
def test_the_model_of_the_tutorial(pairs, tmp_path):
    data = pairs.map(lambda u, i: {"user_id": u, "movie_title": i})
    model = Tutorial()
    model.compile(pep.optimizers.AdamL2(0.05))
    retraining = pep.PEPRetraining(
        budget=400,
        search_epochs=4,
        monitor="val_factorized_top_k/top_5_categorical_accuracy",
    )
    model.fit(
        data.batch(100),
        validation_data=data.batch(500),
        epochs=10,
        callbacks=[retraining],
        verbose=0,
    )
    assert retraining.mode == "max"
    assert retraining.best > 0.9
    assert retraining.ticket.embedding_parameters == 400
    small = keras_pep.pruned_model(model.user_model)
    made = keras_pep.export_saved_model(small, tmp_path / "1")
    (answer,) = in_c_runtime(
        made.path,
        [("serving_default", {small.inputs[0].name: np.array(USERS, object)})],
    )
    (vectors,) = answer.values()
    np.testing.assert_allclose(
        vectors, model.user_model.predict(USERS, verbose=0), atol=1e-6
    )


@pytest.mark.parametrize("items", [[], [["a"]]])
def test_items_are_named_one_after_the_other(items):
    with pytest.raises(ValueError, match="`items` must be"):
        pep.RetrievalModel(tower(USERS, "users"), tower(ITEMS, "items"), items)


@pytest.mark.slow
def test_lookups_may_be_adapted(pairs, tmp_path):
    """As in the quickstart of TFRS, with items as TensorFlow has strings."""
    items = np.array([name.encode() for name in ITEMS], dtype=object)
    model = pep.RetrievalModel(
        tower(USERS, "users", adapted=True),
        tower(ITEMS, "items", adapted=True),
        items,
    )
    model.compile(pep.optimizers.LazyAdam(0.05))
    retraining = pep.PEPRetraining(
        sparsity=0.5,
        search_epochs=2,
        monitor="val_factorized_top_k/top_10_categorical_accuracy",
    )
    data = pairs.batch(300)
    model.fit(
        data,
        validation_data=data,
        epochs=4,
        callbacks=[retraining],
        verbose=0,
    )
    assert retraining.best is not None
    pair = (USERS[:5], ITEMS[:5])
    small = keras_pep.pruned_model(model)
    np.testing.assert_allclose(small(pair), model(pair), atol=1e-6)
    made = keras_pep.export_saved_model(small, tmp_path / "1")
    (answer,) = in_c_runtime(
        made.path, [("serving_default", {"user": np.array(USERS, object)})]
    )
    for user, found in zip(USERS, answer["items"], strict=True):
        assert found[:5] == best_of(model, user, 5)[0]


def test_a_table_that_towers_share_is_not_torn_apart():
    lookup = tf_keras.layers.StringLookup(
        vocabulary=ITEMS.tolist(), mask_token=None
    )
    table = pep.PEPEmbedding(46, 8, name="items")
    user, item = (
        tf_keras.Sequential(
            [tf_keras.layers.Input(shape, dtype=tf.string), lookup, table, top]
        )
        for shape, top in (
            ((3,), tf_keras.layers.GlobalAveragePooling1D()),
            ((), tf_keras.layers.Activation("linear")),
        )
    )
    model = pep.RetrievalModel(user, item, ITEMS)
    with pytest.raises(ValueError, match="'items' in several"):
        keras_pep.pruned_model(model)
    vectors = keras_pep.pruned_model(item).predict(ITEMS, verbose=0)
    np.testing.assert_allclose(vectors, item.predict(ITEMS, verbose=0))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"items": ["a", "a"]}, ValueError, "an item twice"),
        ({"items": [1.5]}, ValueError, "the names of items"),
        ({"batch": {"user": 1}}, TypeError, "tuples of users and items"),
        (
            {"batch": (USERS[:2], ITEMS[:2], np.array([1.0, 5.0]))},
            tf.errors.InvalidArgumentError,
            "no probabilities",
        ),
        ({"task": tfrs.tasks.Retrieval()}, ValueError, "task of your own"),
    ],
)
def test_what_cannot_be_says_why(change, error, message):
    def use():
        model = pep.RetrievalModel(
            tower(USERS, "users"),
            tower(ITEMS, "items"),
            change.get("items", ITEMS),
            task=change.get("task"),
        )
        model.compute_loss(change.get("batch", (USERS[:2], ITEMS[:2])))
        model.get_config()

    with pytest.raises(error, match=message):
        use()


def test_the_loss_of_the_last_batch_is_no_figure_to_choose_by(pairs):
    model = towers()
    model.compile(pep.optimizers.LazyAdam())
    with pytest.raises(ValueError, match="the last batch alone"):
        model.fit(
            pairs.batch(500),
            epochs=2,
            callbacks=[pep.PEPRetraining(sparsity=0.5)],
            verbose=0,
        )
