import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_pep
from keras_pep.layers import Linear
from keras_pep.models import (
    DCN,
    FM,
    GEM,
    AutoInt,
    DeepFM,
    FvFM,
    LogisticRegression,
)
from keras_pep.optimizers import AdamL2
from keras_pep.sparse import SparseTable

SIZES = [4, 3, 5]
IDS = np.array([[0, 0, 0], [3, 2, 4], [1, 2, 0]])
ROWS = IDS + np.array([0, 4, 7])  # in the shared table


def randomized(model):
    random = np.random.default_rng(0)
    for variable in model.trainable_variables:
        if variable.name != "threshold_logits":
            variable.assign(random.normal(size=variable.shape))
    return model


def test_fm_is_first_order_plus_all_pairs():
    model = randomized(FM(SIZES, 6, "dense"))
    table = model.embedding.embeddings.numpy()
    weights = model.first_order.kernel.numpy()[:, 0]
    bias = float(model.first_order.bias.numpy()[0])
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


LISTS = {"field_sizes": [4, 3, 5], "field_lengths": [1, 3, 2]}
LISTED = np.array(
    [
        [0, 0, -1, -1, 4, 0],
        [3, 2, 1, 0, 1, -1],
        [1, 1, 1, -1, 2, 3],
    ]
)


@pytest.mark.parametrize(
    ("fields", "ids"), [({"field_sizes": SIZES}, IDS), (LISTS, LISTED)]
)
def test_fvfm_begins_as_fm(fields, ids):
    model = FvFM(embedding_dim=6, embedding="dense", **fields)
    kernel = model.interaction.kernel
    assert kernel.shape == (3, 6)  # counted with the rest
    assert model.count_params() == 12 * 6 + 12 + 1 + 3 * 6
    table = np.random.default_rng(0).normal(size=(12, 6))
    model.embedding.embeddings.assign(table)
    fm = FM(embedding_dim=6, embedding=model.embedding, **fields)
    np.testing.assert_allclose(model(ids), fm(ids), atol=1e-5)  # as above
    assert np.ptp(fm(ids)) > 1


def test_fvfm_weighs_pairs_of_fields():
    """A list counts by its average; each column of vectors by itself."""
    model = randomized(FvFM(embedding_dim=6, embedding="dense", **LISTS))
    vectors = pooled(model.embedding.embeddings.numpy(), LISTED)
    weights = model.interaction.kernel.numpy()
    pairs = [
        sum(
            (row[f] * weight) @ row[g]
            for weight, (f, g) in zip(
                weights, [(0, 1), (0, 2), (1, 2)], strict=True
            )
        )
        for row in vectors
    ]
    first = pooled(model.first_order.kernel.numpy(), LISTED).sum((1, 2))
    expected = first + model.first_order.bias.numpy() + pairs
    np.testing.assert_allclose(model(LISTED)[:, 0], expected, atol=1e-5)


def test_fvfm_learns_pairs_of_opposite_signs():
    """Known answer: x y + x z - y z, of numbers that are 1 or -1.

    With one column FM has products whose product is a square. It comes as
    close as a mean squared error of 1: without the last pair.
    """
    ids = np.array([*itertools.product(range(2), repeat=3)] * 300)
    x, y, z = 2 * ids.T - 1
    answers = (x * y + x * z - y * z)[:, None].astype("float32")
    errors = {}
    for cls in (FM, FvFM):
        model = cls([2, 2, 2], 1, "dense")
        model.compile(keras_pep.optimizers.AdamL2(0.05, l2=0.0), "mse")
        model.fit(ids, answers, batch_size=8, verbose=0)
        errors[cls] = model.evaluate(ids, answers, verbose=0)
    assert errors[FM] > 1
    assert errors[FvFM] < 1e-3


def test_weights_of_pairs_are_rewound():
    ids = np.random.default_rng(0).integers(0, 3, size=(64, 3))
    model = FvFM(SIZES, 6)
    model.compile(keras_pep.optimizers.AdamL2(0.01), "mse")
    data = ids, np.ones(64, "float32")
    (ticket,) = keras_pep.search(model, data, budgets=[30], epochs=2)
    learned = model.interaction.kernel.numpy()
    assert (learned != 1).all()
    for start, expected in (("rewind", 1), ("finetune", learned)):
        small = keras_pep.pruned_model(model, ticket, start)
        np.testing.assert_array_equal(small.interaction.kernel, expected)


def test_gem_convolves_the_features_of_an_example():
    """Each vector, and a perceptron of the mean of the others, twice."""
    model = randomized(
        GEM(embedding_dim=6, embedding="dense", num_convolutions=2, **LISTS)
    )
    vectors = pooled(model.embedding.embeddings.numpy(), LISTED)
    for layer in model.convolutions:
        kernel, bias = (weight.numpy() for weight in layer.weights)
        moved = []
        for row in vectors:
            means = [(row.sum(axis=0) - node) / 2 for node in row]
            moved.append(row + np.maximum(means @ kernel + bias, 0))
        vectors = np.array(moved)
    pairs = [
        row[f] @ row[g] for row in vectors for f, g in [(0, 1), (0, 2), (1, 2)]
    ]
    first = pooled(model.first_order.kernel.numpy(), LISTED).sum((1, 2))
    expected = first + model.first_order.bias.numpy()
    expected += np.reshape(pairs, (-1, 3)).sum(axis=1)
    # float32 sums of products, of logits up to thousands.
    np.testing.assert_allclose(model(LISTED)[:, 0], expected, rtol=1e-5)


def test_one_field_has_no_pairs():
    with pytest.raises(ValueError, match="two fields: use"):
        FvFM([5], 4)


def test_logistic_regression_is_a_sum_of_weights():
    model = randomized(LogisticRegression(SIZES, embedding="dense"))
    weights = model.embedding.embeddings.numpy()[:, 0]
    expected = weights[ROWS].sum(axis=1) + model.bias.numpy()
    np.testing.assert_allclose(model(IDS)[:, 0], expected, rtol=1e-5)


def test_logistic_regression_has_one_weight_per_feature():
    with pytest.raises(ValueError, match="embedding_dim=64"):
        LogisticRegression(SIZES, 64)


def settings(model):
    config = model.get_config()
    for name in ("embedding", "linear"):
        if name in config:  # without what says how it was built
            config[name] = config[name]["config"]
    return config


def logits(model, ids):
    """Without the graph that `predict` would make for one batch."""
    return keras.ops.convert_to_numpy(model(ids))


def ticket_of(dim):
    table = np.random.default_rng(1).normal(size=(12, dim))
    mask = np.arange(table.size).reshape(table.shape) % 2 == 0
    return keras_pep.Ticket({"embedding": SparseTable.from_dense(table, mask)})


@pytest.mark.parametrize("embedding", ["pep", "dense", "pruned"])
@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (FM, {}),
        (LogisticRegression, {"embedding_dim": 1}),
        (DeepFM, {"hidden_units": [5, 3], "dropout": 0.5}),
        (FvFM, {}),
        (GEM, {"num_convolutions": 2}),
        (DCN, {"num_cross_layers": 2, "hidden_units": [5], "dropout": 0.5}),
        (AutoInt, {"num_layers": 2, "attention_units": 4}),
        (AutoInt, {"hidden_units": [5], "attention_dropout": 0.5}),
    ],
)
def test_saved_model_predicts_the_same(cls, arguments, embedding, tmp_path):
    arguments = {"embedding_dim": 6, **arguments}
    if embedding == "pruned":
        arguments["ticket"] = ticket_of(arguments["embedding_dim"])
    model = randomized(cls(SIZES, embedding=embedding, **arguments))
    expected = logits(model, IDS)
    assert expected.shape == (3, 1)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.embedding) is type(model.embedding)
    assert settings(loaded) == settings(model)
    np.testing.assert_allclose(logits(loaded, IDS), expected, atol=1e-6)


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


@pytest.mark.requires_tensorflow
@pytest.mark.parametrize("optimizer", [keras.optimizers.Adam, AdamL2])
def test_a_step_is_traced_once(optimizer):
    class Counted(FM):
        def call(self, ids):
            calls.append(ids.shape)
            return super().call(ids)

    calls = []
    model = Counted(SIZES, 2, "pep")
    model.compile(
        optimizer(), keras.losses.BinaryCrossentropy(from_logits=True)
    )
    calls.clear()
    model.fit(IDS, np.ones(3, np.float32), verbose=0)
    assert len(calls) == 1


def test_first_order_weights_can_be_pruned_too():
    model = FM(SIZES, 6, linear="pep")
    model.build()
    layer = model.first_order.embedding
    layer.embeddings.assign(np.linspace(-1, 1, 12)[:, None])
    layer.clock.assign(np.log(0.5 / 3.06e-7))  # sigmoid(-15) is 3.06e-7
    model.embedding.embeddings.assign(np.zeros((12, 6)))
    weights = np.linspace(-1, 1, 12)
    weights = np.sign(weights) * np.maximum(abs(weights) - 0.5, 0)
    np.testing.assert_allclose(
        model(IDS)[:, 0], weights[ROWS].sum(axis=1), atol=1e-3
    )


def test_first_order_thresholds_start_with_the_others():
    table = keras_pep.PEPEmbedding(12, 6, threshold_init=-4.0)
    model = FM(SIZES, 6, table, linear="pep")
    assert model.first_order.embedding.threshold_init == -4.0


def test_a_ticket_of_both_tables_makes_a_pruned_model():
    random = np.random.default_rng(1)
    tables = {
        name: SparseTable.from_dense(
            random.normal(size=(12, columns)).astype("float32"),
            random.random((12, columns)) < 0.5,
        )
        for name, columns in (("embedding", 6), ("linear_weights", 1))
    }
    model = FM(SIZES, 6, "pruned", ticket=keras_pep.Ticket(tables))
    weights = tables["linear_weights"].to_dense()[:, 0]
    table = tables["embedding"].to_dense()
    expected = [
        weights[rows].sum()
        + sum(table[i] @ table[j] for i, j in itertools.combinations(rows, 2))
        for rows in ROWS
    ]
    np.testing.assert_allclose(model(IDS)[:, 0], expected, atol=1e-5)


def test_any_layer_plugs_in():
    layer = keras_pep.PEPEmbedding(
        12, 6, granularity="feature", threshold_init=-1.0
    )
    model = randomized(FM(SIZES, 6, layer))
    table = layer.pruned_embeddings()
    assert 0.1 < np.mean(table == 0) < 0.4
    expected = [
        sum(table[i] @ table[j] for i, j in itertools.combinations(rows, 2))
        for rows in ROWS
    ]
    pairs = (model(IDS) - model.first_order(ROWS))[:, 0]
    np.testing.assert_allclose(pairs, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"field_sizes": []}, "at least one field"),
        ({"field_sizes": [3, 0]}, "field_sizes=0"),
        ({"embedding_dim": 0}, "embedding_dim=0"),
        ({"linear": "none"}, "linear='none'"),
        ({"linear": Linear(11)}, "12 features. Received: linear of 11"),
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


@pytest.mark.parametrize("linear", ["pep", "dense"])
@pytest.mark.parametrize("embedding", ["pep", "dense"])
def test_half_precision_keeps_large_ids_apart(embedding, linear):
    """Float16 has no 4097: ids must not be cast to it."""
    model = FM([5000, 3], 8, embedding, linear=linear, dtype="mixed_float16")
    output = model(np.array([[4097.0, 0.0], [4096.0, 0.0]]))
    assert keras.backend.standardize_dtype(output.dtype) == "float16"
    assert model.first_order.compute_dtype == "float16"
    assert model.embedding.compute_dtype == "float16"
    assert float(output[0, 0]) != float(output[1, 0])


def test_deepfm_is_fm_and_a_perceptron():
    model = randomized(DeepFM(SIZES, 6, "dense", hidden_units=[5]))
    fm = FM(SIZES, 6, model.embedding, linear=model.first_order)
    deep = model(IDS) - fm(IDS)
    kernel, scale, offset, top, bias, *_ = (
        w.numpy() for w in model.deep.trainable_weights
    )
    vectors = model.embedding.embeddings.numpy()[ROWS].reshape(3, -1)
    # Batch normalization at its start: mean 0, variance 1, epsilon 1e-3.
    hidden = vectors @ kernel / np.sqrt(1 + 1e-3) * scale + offset
    expected = np.maximum(hidden, 0) @ top + bias
    np.testing.assert_allclose(deep, expected, atol=1e-4)


def test_dcn_is_a_cross_network_and_a_perceptron():
    """To 1e-4 of the numbers: logits are up to some thousands."""
    model = randomized(
        DCN(SIZES, 6, "dense", num_cross_layers=2, hidden_units=[5])
    )
    first = model.embedding.embeddings.numpy()[ROWS].reshape(3, -1)
    hidden = first
    for cross in model.crosses:
        kernel, bias = (weight.numpy() for weight in cross.weights)
        hidden = first * (hidden @ kernel + bias) + hidden
    weights, bias = (weight.numpy() for weight in model.head.weights)
    deep = model.deep(model.embedding(ROWS))
    np.testing.assert_allclose(
        model(IDS) - deep, hidden @ weights + bias, rtol=1e-4
    )


def test_attention_is_the_formula():
    layer = keras_pep.layers.InteractingLayer(6, num_heads=3)
    random = np.random.default_rng(0)
    inputs = random.normal(size=(2, 4, 5))
    layer.build(inputs.shape)
    query, key, value, residual = (random.normal(size=(5, 6)) for _ in range(4))
    layer.set_weights([query, key, value, residual])
    expected = np.zeros((2, 4, 6))
    for example, head in itertools.product(range(2), range(3)):
        part = slice(2 * head, 2 * head + 2)
        q, k, v = (inputs[example] @ w[:, part] for w in (query, key, value))
        scores = np.exp(q @ k.T)
        scores /= scores.sum(axis=1, keepdims=True)
        expected[example, :, part] = scores @ v
    expected = np.maximum(expected + inputs @ residual, 0)
    np.testing.assert_allclose(layer(inputs), expected, atol=1e-4)
    assert layer.compute_output_shape((None, 4, 5)) == (None, 4, 6)


def test_autoint_plus_is_autoint_and_a_perceptron():
    model = randomized(AutoInt(SIZES, 6, "dense", hidden_units=[5]))
    rest = AutoInt(SIZES, 6, model.embedding)
    rest.build()
    for ours, theirs in zip(
        [*model.interactions, model.head],
        [*rest.interactions, rest.head],
        strict=True,
    ):
        theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(
        model(IDS) - rest(IDS), model.deep(model.embedding(ROWS)), atol=1e-4
    )


def test_attention_heads_divide_the_width():
    with pytest.raises(ValueError, match="num_heads=3, units=4"):
        keras_pep.layers.InteractingLayer(4, num_heads=3)


def pooled(table, ids):
    """Vectors of the fields, one list at a time."""
    offsets = [0, 4, 7]
    places = np.split(np.arange(6), [1, 4])
    return np.array(
        [
            [
                table[[row[p] + offset for p in part if row[p] >= 0]].mean(0)
                for part, offset in zip(places, offsets, strict=True)
            ]
            for row in ids
        ]
    )


def test_vectors_of_a_list_are_averaged():
    model = randomized(FM(embedding_dim=6, embedding="dense", **LISTS))
    vectors = pooled(model.embedding.embeddings.numpy(), LISTED)
    weights = pooled(model.first_order.kernel.numpy(), LISTED)
    pairs = [
        sum(a @ b for a, b in itertools.combinations(row, 2)) for row in vectors
    ]
    expected = weights.sum((1, 2)) + model.first_order.bias.numpy() + pairs
    # Sums of some 30 float32 products of numbers around 1.
    np.testing.assert_allclose(model(LISTED)[:, 0], expected, atol=1e-5)


def test_weights_of_a_list_are_averaged():
    model = randomized(LogisticRegression(embedding="dense", **LISTS))
    weights = pooled(model.embedding.embeddings.numpy(), LISTED)
    expected = weights.sum((1, 2)) + model.bias.numpy()
    np.testing.assert_allclose(model(LISTED)[:, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("cls", [FM, FvFM, GEM, DeepFM, DCN, AutoInt])
@pytest.mark.parametrize("embedding", ["pep", "dense"])
def test_the_place_within_a_list_does_not_matter(cls, embedding, tmp_path):
    model = randomized(cls(embedding_dim=6, embedding=embedding, **LISTS))
    # float32 sums in another order, of logits up to 250.
    moved = LISTED[:, [0, 3, 1, 2, 5, 4]]
    expected = logits(model, LISTED)
    np.testing.assert_allclose(logits(model, moved), expected, rtol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(logits(loaded, LISTED), expected)


def test_nothing_is_learned_of_what_is_not_there():
    model = FM(embedding_dim=6, embedding="dense", **LISTS)
    model.build()
    before = model.embedding.embeddings.numpy()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(LISTED, np.ones(3), verbose=0)
    changed = (model.embedding.embeddings.numpy() != before).any(axis=1)
    assert changed.tolist() == [
        n in {0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11} for n in range(12)
    ]


def test_lengths_go_with_fields():
    with pytest.raises(ValueError, match=r"3 fields. Received: \[1, 2\]"):
        FM(SIZES, field_lengths=[1, 2])


def test_it_can_be_built_twice():
    model = LogisticRegression(SIZES)
    model.build()
    weights = model.weights
    model.build((None, 3))
    assert [id(w) for w in model.weights] == [id(w) for w in weights]
    assert len(weights) == 4  # table, thresholds, clock and bias


# Layers that stay as they are say so, and what to do.
left_alone = pytest.mark.filterwarnings(
    "ignore:Layer .* does not have a `quantize` method",
    "ignore:.* cannot be quantized",
    "ignore:.* stays as it is",
)


@left_alone
@pytest.mark.parametrize("mode", ["int8", "int4"])
@pytest.mark.parametrize(
    ("cls", "embedding", "arguments", "quantized"),
    [
        (DeepFM, "pep", {"hidden_units": [5, 3]}, 3),
        (DeepFM, "dense", {"hidden_units": [5]}, 3),
        (DCN, "pruned", {"num_cross_layers": 1, "hidden_units": [5]}, 4),
        (AutoInt, "pep", {"attention_units": 4}, 1),
        (AutoInt, "pruned", {"attention_units": 4, "hidden_units": [5]}, 3),
    ],
)
def test_a_quantized_model_is_loaded(
    cls, embedding, arguments, quantized, mode, tmp_path
):
    """Keras quantizes dense layers, and a table of its own."""
    if embedding == "pruned":
        arguments = {**arguments, "ticket": ticket_of(6)}
    model = randomized(cls(SIZES, 6, embedding, **arguments))
    table = np.array(model.embedding.weights[0])
    before = logits(model, IDS)
    model.quantize(mode)
    modes = [layer.quantization_mode for layer in model._flatten_layers()]
    in_int8 = embedding == "pruned" and mode == "int8"
    assert modes.count(mode) == quantized + in_int8
    if embedding != "dense" and not in_int8:
        np.testing.assert_array_equal(model.embedding.weights[0], table)
    expected = logits(model, IDS)
    assert (expected != before).any()
    # Logits are up to 80, and 4 bits hold 16 numbers.
    np.testing.assert_allclose(expected, before, atol=4 if "4" in mode else 1)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [x.quantization_mode for x in loaded._flatten_layers()] == modes
    np.testing.assert_array_equal(logits(loaded, IDS), expected)


@left_alone
@pytest.mark.parametrize("cls", [FM, FvFM])
def test_a_pruned_model_is_quantized_to_int8(cls):
    """To half a 127th of the largest value of a row, at most."""
    model = randomized(cls(SIZES, 6, "pruned", ticket=ticket_of(6)))
    table = model.embedding.sparse().to_dense()
    model.quantize("int8")
    assert model.embedding.quantization_mode == "int8"
    assert model.embedding.values.dtype == "int8"
    assert not model.embedding.trainable_weights
    error = np.abs(model.embedding(np.arange(12)) - table)
    # A unit is rounded up to float16, by 2**-11 at most.
    assert error.max() <= np.abs(table).max() / 254 * (1 + 2**-10)
    assert error.max() > 0
    with pytest.raises(ValueError, match="already"):
        model.embedding.quantize("int8")


@left_alone
@pytest.mark.parametrize(
    ("embedding", "mode", "message"),
    [
        ("pep", "int8", "Make the small model with"),
        ("pruned", "int4", "a pruned table is quantized to 'int8'"),
    ],
)
def test_what_is_not_quantized_says_why(embedding, mode, message):
    ticket = ticket_of(6) if embedding == "pruned" else None
    model = FM(SIZES, 6, embedding, ticket=ticket)
    with pytest.raises(NotImplementedError, match=message):
        model.embedding.quantize(mode)
    with pytest.warns(UserWarning, match=message):
        keras.Sequential([keras.Input((3,)), model.embedding]).quantize(mode)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("torch", "cannot be exported as 'torch'.*PyTorch backend.*Use"),
        ("pickle", "cannot be exported as 'pickle'.*Supported formats"),
    ],
)
def test_what_cannot_be_exported_says_why(form, message, tmp_path):
    model = FM(SIZES, 6, "pruned", ticket=ticket_of(6))
    with pytest.raises(RuntimeError, match=message):
        model.export(tmp_path / "model", format=form, verbose=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_a_dense_model_in_litert(tmp_path):
    """To 1e-5: logits of up to 20, added up in another order."""
    model = randomized(FM(SIZES, 6, "dense"))
    path = str(tmp_path / "model.tflite")
    model.export(path, format="litert", verbose=False)
    lite = tf.lite.Interpreter(path)
    (given,), (result,) = lite.get_input_details(), lite.get_output_details()
    lite.resize_tensor_input(given["index"], IDS.shape)
    lite.allocate_tensors()
    lite.set_tensor(given["index"], IDS.astype("int32"))
    lite.invoke()
    found = lite.get_tensor(result["index"])
    np.testing.assert_allclose(found, model(IDS), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "cls", [FM, FvFM, GEM, DeepFM, DCN, AutoInt, LogisticRegression]
)
def test_a_model_has_its_weights_when_it_is_made(cls):
    model = cls(SIZES)
    assert model.built
    names = [weight.path for weight in model.weights]
    assert len(names) == len(set(names)) > 3
    model.build()
    assert [weight.path for weight in model.weights] == names


def test_a_model_of_a_subclass_is_built_when_all_of_it_is_made():
    class Sized(FM):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.factor = self.add_weight(shape=(), initializer="ones")

        def logits(self, rows, shares, training):
            return self.factor * super().logits(rows, shares, training)

    class Same(Sized):
        pass

    assert len(Same(SIZES).weights) == len(FM(SIZES).weights) + 1


@left_alone
def test_weights_alone_quantized_stay_so(tmp_path):
    """A configuration of Keras' is part of that of the layer."""
    model = randomized(DeepFM(SIZES, 6, hidden_units=[5]))
    model.quantize(
        config=keras.quantizers.Int8QuantizationConfig(
            activation_quantizer=None
        )
    )
    expected = logits(model, IDS)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(logits(loaded, IDS), expected)


@left_alone
def test_a_quantized_perceptron_of_another_model_is_loaded(tmp_path):
    inputs = keras.Input((3, 6))
    perceptron = keras_pep.layers.MLP([5, 4])
    model = keras.Model(inputs, perceptron(inputs))
    model.quantize("int8")
    vectors = np.random.default_rng(0).normal(size=(7, 3, 6))
    expected = logits(model, vectors)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(logits(loaded, vectors), expected)


@left_alone
def test_cross_layers_of_another_model_are_the_formula(tmp_path):
    inputs = keras.Input((4,))
    layers = [keras_pep.layers.CrossLayer(4) for _ in range(2)]
    outputs = layers[1](layers[0](inputs, inputs), inputs)
    model = randomized(keras.Model(inputs, outputs))
    first = np.random.default_rng(1).normal(size=(7, 4))
    hidden = first
    for layer in layers:
        kernel, bias = (weight.numpy() for weight in layer.weights)
        hidden = first * (hidden @ kernel + bias) + hidden
    # Sums of some ten float32 products of numbers around 1, up to 30.
    found = logits(model, first)
    np.testing.assert_allclose(found, hidden, rtol=1e-5, atol=1e-5)
    model.quantize("int8")
    quantized = logits(model, first)
    # To a 127th of the largest kernel entry, twice, times such numbers.
    np.testing.assert_allclose(quantized, found, atol=0.5)
    assert (quantized != found).any()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(logits(loaded, first), quantized)
