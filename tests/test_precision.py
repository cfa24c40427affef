"""Mixed precision and XLA."""

import keras
import numpy as np
import pytest

import keras_pep

BACKEND = keras.backend.backend()
SIZES = (20, 20, 20)
POLICIES = ("mixed_float16", "mixed_bfloat16")
MODELS = {
    "LogisticRegression": {},
    "FM": {"embedding_dim": 8},
    "DeepFM": {"embedding_dim": 8, "hidden_units": (8,), "dropout": 0.0},
    "FvFM": {"embedding_dim": 8},
    "GEM": {"embedding_dim": 4},
    "DCN": {"embedding_dim": 8, "hidden_units": (8,), "dropout": 0.0},
    "AutoInt": {
        **{"embedding_dim": 8, "attention_units": 8},
        **{"hidden_units": (8,), "dropout": 0.0},
    },
}
# Of the first rows in float32, as TensorFlow computes them.
LOGITS = {
    "LogisticRegression": [0.157644, -0.259356, 0.060430],
    "FM": [-0.193943, 0.177977, 0.045793],
    "DeepFM": [-0.253275, 0.138469, -0.002686],
    "FvFM": [-0.329486, 0.001664, 0.140696],
    "GEM": [-0.749166, 0.035820, -0.249760],
    "DCN": [-0.565011, -0.339139, 0.011401],
    "AutoInt": [0.015179, 0.025420, 0.200100],
}
# Halves have 11 and 8 bits. Logits are sums of some ten numbers of about 1,
# each rounded to half a unit of the last of them, or less.
CLOSE = {"mixed_float16": 10 * 2**-12, "mixed_bfloat16": 10 * 2**-9}


class Batches(keras.utils.PyDataset):
    """The same batch five times."""

    def __len__(self):
        return 5

    def __getitem__(self, n):
        return batch()


def batch():
    random = np.random.default_rng(0)
    ids = random.integers(0, 20, (64, len(SIZES))).astype("int32")
    return ids, (ids.sum(axis=1, keepdims=True) % 2).astype("float32")


def model_of(name, policy):
    """A model whose weights do not depend on the policy, nor on the backend."""
    model = getattr(keras_pep.models, name)(SIZES, dtype=policy, **MODELS[name])
    model.build()
    random = np.random.default_rng(1)
    for weight in model.trainable_weights:
        if weight.name not in ("threshold_logits", "gamma"):
            weight.assign(random.normal(0, 0.2, weight.shape))
    return model


def compiled(model, jit_compile, optimizer="LazyAdam"):
    model.compile(
        getattr(keras_pep.optimizers, optimizer)(0.01),
        keras.losses.BinaryCrossentropy(from_logits=True),
        jit_compile=jit_compile,
    )
    return model


def logits_of(model):
    logits = keras.ops.cast(model(batch()[0]), "float32")
    return keras.ops.convert_to_numpy(logits)[:, 0]


def losses_of(model, steps=5):
    return [float(model.train_on_batch(*batch())) for _ in range(steps)]


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_tensorflow(name):
    found = logits_of(model_of(name, "float32"))[:3]
    # Sums of some ten numbers below 1 in another order, and six digits here.
    np.testing.assert_allclose(found, LOGITS[name], atol=2e-6)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", MODELS)
def test_half_precision_is_close_to_float32(name, policy):
    half, whole = model_of(name, policy), model_of(name, "float32")
    assert half.compute_dtype == policy.removeprefix("mixed_")
    output = half(batch()[0])
    assert keras.backend.standardize_dtype(output.dtype) == half.compute_dtype
    found, expected = logits_of(half), logits_of(whole)
    np.testing.assert_allclose(found, expected, atol=CLOSE[policy])
    assert np.ptp(expected) > 5 * CLOSE[policy]
    assert (found != expected).any()
    # What thresholds say of an entry must not depend on the policy.
    assert {weight.dtype for weight in half.weights} == {"float32"}
    np.testing.assert_array_equal(half.embedding.mask(), whole.embedding.mask())


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch does not use XLA")
@pytest.mark.parametrize("optimizer", ["LazyAdam", "RowwiseAdagrad"])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_compiled_for_xla_a_model_learns_the_same(policy, optimizer):
    """With sparse updates, the number of whose rows XLA does not know."""
    losses, tables = zip(
        *(
            (losses_of(model), model.embedding.pruned_embeddings())
            for model in (
                compiled(model_of("FM", policy), jit_compile, optimizer)
                for jit_compile in (True, False)
            )
        ),
        strict=True,
    )
    # Sums in another order; what is rounded to halves may be off by one.
    whole = policy == "float32"
    close = 1e-6 if whole else CLOSE[policy]
    assert losses[0] == pytest.approx(losses[1], abs=close)
    assert losses[1][-1] < losses[1][0]
    if whole:  # Adam makes steps of 0.01 of the rounding errors of halves
        np.testing.assert_allclose(*tables, atol=1e-5)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", ["FvFM", "DeepFM", "DCN"])
def test_search_and_retraining_in_half_precision(name, tmp_path):
    """With the optimizer that Keras wraps in another, which scales the loss."""
    ids, data = batch()[0], Batches()

    def model():
        make = getattr(keras_pep.models, name)
        model = make(SIZES, 8, dtype="mixed_float16")
        return compiled(model, jit_compile=BACKEND == "jax")

    searched = model()
    (ticket,) = keras_pep.search(searched, data, budgets=[100], epochs=2)
    assert ticket.embedding_parameters == 100
    assert ticket.tables["embedding"].values.dtype == np.float32
    small = keras_pep.retrain(searched, ticket, data, epochs=1)
    assert small.embedding.compute_dtype == "float16"
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    np.testing.assert_array_equal(
        *(m.predict(ids, verbose=0) for m in (small, loaded))
    )

    fitted = model()
    fitted.build()
    retraining = keras_pep.callbacks.PEPRetraining(100, monitor="loss")
    fitted.fit(data, epochs=4, verbose=0, shuffle=False, callbacks=[retraining])
    assert fitted.embedding.nonzero_parameters() <= 100
    np.testing.assert_array_equal(
        fitted.embedding.mask(), retraining.ticket.tables["embedding"].mask()
    )


@pytest.mark.parametrize("policy", ["float16", "bfloat16"])
def test_a_table_in_half_precision_is_not_searched(policy):
    """Halves have few values, so that many entries would go at once."""
    model = compiled(keras_pep.models.FM(SIZES, 8, dtype=policy), False)
    with pytest.raises(ValueError, match=f"dtype='mixed_{policy}'"):
        keras_pep.search(model, Batches(), budgets=[100], epochs=2)
    retraining = keras_pep.callbacks.PEPRetraining(100, monitor="loss")
    with pytest.raises(ValueError, match=f"dtype='mixed_{policy}'"):
        model.fit(Batches(), epochs=2, shuffle=False, callbacks=[retraining])


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", ["FvFM", "DeepFM", "DCN", "AutoInt"])
def test_half_precision_trains_as_float32(name):
    """On JAX as it is compiled."""
    half, whole = model_of(name, "mixed_float16"), model_of(name, "float32")
    losses = [
        losses_of(compiled(model, jit_compile=BACKEND == "jax"), 2)
        for model in (half, whole)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=CLOSE["mixed_float16"])
