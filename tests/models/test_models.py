import itertools

import keras
import numpy as np
import pytest

import keras_pep
from keras_pep.models import FM, LogisticRegression
from keras_pep.sparse import SparseTable

SIZES = [4, 3, 5]
IDS = np.array([[0, 0, 0], [3, 2, 4], [1, 2, 0]])
ROWS = IDS + np.array([0, 4, 7])  # in the shared table


def randomized(model):
    model.build()
    random = np.random.default_rng(0)
    for variable in model.trainable_variables:
        if variable.name != "threshold_logits":
            variable.assign(random.normal(size=variable.shape))
    return model


def test_fm_is_first_order_plus_all_pairs():
    model = randomized(FM(SIZES, 6, "dense"))
    table = model.embedding.embeddings.numpy()
    weights = model.linear.kernel.numpy()[:, 0]
    bias = float(model.linear.bias.numpy()[0])
    expected = [
        [
            bias
            + weights[rows].sum()
            + sum(
                table[i] @ table[j] for i, j in itertools.combinations(rows, 2)
            )
        ]
        for rows in ROWS
    ]
    # Sums of some 30 float32 products of numbers around 1.
    np.testing.assert_allclose(model(IDS), expected, atol=1e-5)


def test_logistic_regression_is_a_sum_of_weights():
    model = randomized(LogisticRegression(SIZES, embedding="dense"))
    weights = model.embedding.embeddings.numpy()[:, 0]
    expected = weights[ROWS].sum(axis=1) + model.bias.numpy()
    np.testing.assert_allclose(model(IDS)[:, 0], expected, rtol=1e-5)


def test_logistic_regression_has_one_weight_per_feature():
    with pytest.raises(ValueError, match="embedding_dim=64"):
        LogisticRegression(SIZES, 64)


def pruned(name):
    table = np.random.default_rng(1).normal(size=(12, 1 if name == "lr" else 6))
    mask = np.arange(table.size).reshape(table.shape) % 2 == 0
    return keras_pep.Ticket({"embedding": SparseTable.from_dense(table, mask)})


@pytest.mark.parametrize("embedding", ["pep", "dense", "pruned"])
@pytest.mark.parametrize("name", ["fm", "lr"])
def test_saved_model_predicts_the_same(name, embedding, tmp_path):
    cls, dim = {"fm": (FM, 6), "lr": (LogisticRegression, 1)}[name]
    ticket = pruned(name) if embedding == "pruned" else None
    model = randomized(cls(SIZES, dim, embedding, ticket=ticket))
    expected = model.predict(IDS, verbose=0)
    assert expected.shape == (3, 1)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.embedding) is type(model.embedding)
    np.testing.assert_allclose(
        loaded.predict(IDS, verbose=0), expected, atol=1e-6
    )


def test_fm_learns_who_likes_what():
    """Known answer: a checkerboard, which only pairs can express."""
    random = np.random.default_rng(0)
    ids = random.integers(0, 10, size=(4096, 2))
    labels = (ids.sum(axis=1) % 2 == 0).astype("float32")
    model = FM([10, 10], 4, "pep")
    model.compile(
        keras_pep.optimizers.AdamL2(0.05, l2=0.0),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    model.fit(ids, labels[:, None], batch_size=128, epochs=5, verbose=0)
    figures = keras_pep.metrics.evaluate(model, ids, labels)
    assert figures["auc"] > 0.999
    linear = LogisticRegression([10, 10], embedding="dense")
    linear.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    linear.fit(ids, labels[:, None], batch_size=128, epochs=5, verbose=0)
    assert keras_pep.metrics.evaluate(linear, ids, labels)["auc"] < 0.7


def test_any_layer_plugs_in():
    layer = keras_pep.PEPEmbedding(12, 6, "feature", threshold_init=-1.0)
    model = randomized(FM(SIZES, 6, layer))
    table = layer.pruned_embeddings()
    assert 0.1 < np.mean(table == 0) < 0.4
    expected = [
        sum(table[i] @ table[j] for i, j in itertools.combinations(rows, 2))
        for rows in ROWS
    ]
    pairs = (model(IDS) - model.linear(ROWS))[:, 0]
    np.testing.assert_allclose(pairs, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"field_sizes": []}, "at least one field"),
        ({"field_sizes": [3, 0]}, "field_sizes=0"),
        ({"embedding_dim": 0}, "embedding_dim=0"),
        ({"embedding": "sparse"}, "embedding='sparse'"),
        ({"embedding": "pruned"}, "ticket=None"),
        (
            {"embedding": keras.layers.Embedding(99, 64)},
            r"\(12, 64\). Received: \(99, 64\)",
        ),
        (
            {"embedding": keras_pep.PEPEmbedding(12, 3)},
            r"\(12, 64\). Received: \(12, 3\)",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        FM(**{"field_sizes": SIZES, **arguments})


@pytest.mark.parametrize("embedding", ["pep", "dense"])
def test_half_precision_keeps_large_ids_apart(embedding):
    """Float16 has no 4097: ids must not be cast to it."""
    model = FM([5000, 3], 8, embedding, dtype="mixed_float16")
    output = model(np.array([[4097.0, 0.0], [4096.0, 0.0]]))
    assert keras.backend.standardize_dtype(output.dtype) == "float16"
    assert model.linear.compute_dtype == "float16"
    assert model.embedding.compute_dtype == "float16"
    assert float(output[0, 0]) != float(output[1, 0])
