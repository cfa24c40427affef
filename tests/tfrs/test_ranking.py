import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

import keras_pep
import keras_pep.tfrs as pep
from tests.serving.serving import in_c_runtime
from tests.tfrs.conftest import SIZES


def batched(rows, size=200):
    return tf.data.Dataset.from_tensor_slices(rows).batch(size)


@pytest.mark.slow
def test_searched_and_retrained_in_one_fit(rows, tmp_path):
    """FM on planted weights: at 80 % pruned nearly as good, and smaller."""
    ids, labels = rows
    model = pep.RankingModel(pep.models.FM(SIZES, 8))
    model.build()
    model.compile(pep.optimizers.LazyAdam(0.02, l2=1e-5))
    retraining = pep.PEPRetraining(
        sparsity=0.8, monitor="val_auc", ticket_path=tmp_path / "ticket.npz"
    )
    history = model.fit(
        batched(rows),
        epochs=12,
        callbacks=[pep.callbacks.ExactValidation(ids, labels), retraining],
        verbose=0,
    )
    budget = round(0.2 * 60 * 8)
    assert 0 < budget - retraining.ticket.embedding_parameters + 1 <= 2
    assert model.scorer.embedding.nonzero_parameters() <= budget
    assert retraining.best == max(history.history["val_auc"][6:])
    found = keras_pep.metrics.evaluate(model, ids, labels)
    assert found["auc"] == pytest.approx(retraining.best, abs=1e-6)
    assert found["auc"] > 0.95

    ticket = keras_pep.Ticket.load(tmp_path / "ticket.npz")
    small = keras_pep.pruned_model(model)
    assert isinstance(small.scorer.embedding, pep.PrunedEmbedding)
    np.testing.assert_array_equal(
        small.scorer.embedding.sparse().mask(),
        model.scorer.embedding.mask(),
    )
    np.testing.assert_allclose(
        small.predict(ids, verbose=0), model.predict(ids, verbose=0), atol=1e-6
    )
    small.save(tmp_path / "small.keras")
    again = tf_keras.models.load_model(tmp_path / "small.keras")
    np.testing.assert_array_equal(
        again.predict(ids, verbose=0), small.predict(ids, verbose=0)
    )
    # The ticket is of either Keras.
    twin = keras_pep.models.FM(
        SIZES, 8, "pruned", ticket=ticket, linear="dense"
    )
    assert twin.embedding.num_values == ticket.embedding_parameters


@pytest.mark.slow
def test_the_same_auc_as_with_keras_3(rows):
    """The same seed, data and settings; initial values are the same too."""
    import keras

    ids, labels = rows
    found = []
    for models, optimizers, losses in (
        (keras_pep.models, keras_pep.optimizers, keras.losses),
        (pep.models, pep.optimizers, None),
    ):
        keras.utils.set_random_seed(0)
        layer = (keras_pep if losses else pep).PEPEmbedding(
            sum(SIZES),
            8,
            embeddings_initializer=keras.initializers.GlorotUniform(seed=1),
        )
        model = models.FM(SIZES, 8, layer)
        if losses:
            model.compile(
                optimizers.AdamL2(0.01),
                losses.BinaryCrossentropy(from_logits=True),
            )
        else:
            model = pep.RankingModel(model)
            model.compile(optimizers.AdamL2(0.01))
        model.fit(batched(rows), epochs=3, shuffle=False, verbose=0)
        found.append(keras_pep.metrics.evaluate(model, ids, labels)["auc"])
    assert found[0] > 0.8
    assert found[0] == pytest.approx(found[1], abs=1e-3)


def test_weights_of_rows_count(rows):
    """Against NumPy: the sum of weighted losses over the number of rows."""
    ids, labels = rows
    model = pep.RankingModel(pep.models.FM(SIZES, 4))
    weights = np.random.default_rng(0).random(labels.shape).astype("float32")
    loss = model.compute_loss((ids, labels, weights))
    logits = model.predict(ids, verbose=0).astype(np.float64)
    losses = np.logaddexp(0, logits) - labels * logits
    expected = np.mean(losses * weights)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("quantize", [None, "int8"])
def test_exported_as_its_scorer(rows, quantize, tmp_path):
    ids, _ = rows
    model = pep.RankingModel(pep.models.DeepFM(SIZES, 8))
    model.build()
    table = model.scorer.embedding.initial_embeddings()
    table[np.random.default_rng(0).random(table.shape) < 0.9] = 0
    model.scorer.embedding.assign_sparse(
        keras_pep.sparse.SparseTable.from_dense(table)
    )
    made = keras_pep.export_saved_model(model, tmp_path / "1", None, quantize)
    kept = np.count_nonzero(table)
    assert made.report["tables"]["embedding"]["kept_parameters"] == kept
    assert made.report["tables"]["embedding"]["bytes"] < table.nbytes / 3
    wrong = ids[:50].copy()
    wrong[7, 0] = SIZES[0]
    answer, with_nan, refused = in_c_runtime(
        made.path,
        [("ids", {"ids": each}) for each in (ids[:50], wrong, ids[:50, :1])],
    )
    expected = [*answer["probability"]]
    expected[7] = np.nan
    np.testing.assert_array_equal(with_nan["probability"], expected)
    assert (
        f"ids: expected (rows, {len(SIZES)}), found (50, 1)"
        in (refused["error"])
    )
    logits = model.predict(ids[:50], verbose=0)[:, 0]
    np.testing.assert_allclose(
        answer["probability"],
        1 / (1 + np.exp(-logits)),
        atol=1e-6 if quantize is None else 1e-2,
    )


def test_raw_values_are_numbered_in_the_graph(clicks, tmp_path):
    """The fields of a dataset, as with a model of Keras 3."""
    data = clicks
    scorer = pep.models.FM(
        data.field_sizes, 4, field_lengths=data.field_lengths
    )
    model = pep.RankingModel(scorer)
    model.build()
    made = keras_pep.export_saved_model(model, tmp_path / "1", data)
    signatures = tf.saved_model.load(str(made.path)).signatures
    assert set(signatures) == {"serving_default", "ids"}
    inputs = signatures["serving_default"].structured_input_signature[1]
    assert len(inputs) == len(data.field_sizes)


class OneEach(tf_keras.layers.Layer):
    """A table for each feature, as TFRS' own models take them."""

    def __init__(self):
        super().__init__()
        self.tables = {
            "user": pep.PEPEmbedding(40, 8, name="users"),
            "item": pep.PEPEmbedding(30, 8, name="items"),
        }

    def call(self, inputs):
        return {name: self.tables[name](ids) for name, ids in inputs.items()}


@pytest.mark.slow
def test_the_experimental_ranking_model_of_tfrs():
    """DLRM of TFRS, with `DotInteraction`, on a rule that needs pairs."""
    random = np.random.default_rng(0)
    user = random.integers(0, 40, 4000).astype(np.int32)
    item = random.integers(0, 30, 4000).astype(np.int32)
    dense = random.normal(size=(4000, 3)).astype(np.float32)
    labels = ((user + item) % 2 == 0).astype(np.float32)
    features = {
        "dense_features": dense,
        "sparse_features": {"user": user[:, None], "item": item[:, None]},
    }
    layer = OneEach()
    model = tfrs.experimental.models.Ranking(
        embedding_layer=layer,
        bottom_stack=tfrs.layers.blocks.MLP([8], final_activation="relu"),
        feature_interaction=tfrs.layers.feature_interaction.DotInteraction(),
    )
    data = batched((features, labels))
    model(features)  # to build it
    model.compile(pep.optimizers.AdamL2(0.01))
    retraining = pep.PEPRetraining(sparsity=0.5, monitor="auc", search_epochs=6)
    history = model.fit(data, epochs=14, callbacks=[retraining], verbose=0)
    kept = sum(t.nonzero_parameters() for t in layer.tables.values())
    assert 0 < kept <= 0.5 * 70 * 8
    assert retraining.best == max(history.history["auc"][6:]) > 0.95


def test_layers_that_are_not_built_are_asked_for(rows):
    layers = [pep.PEPEmbedding(9, 4), tf_keras.layers.Dense(1)]
    model = pep.RankingModel(tf_keras.Sequential(layers))
    model.compile(pep.optimizers.AdamL2())
    with pytest.raises(
        ValueError, match="call it, or each of its parts, on a batch"
    ):
        model.fit(
            batched(rows),
            epochs=4,
            callbacks=[pep.PEPRetraining(sparsity=0.5, monitor="loss")],
            verbose=0,
        )
