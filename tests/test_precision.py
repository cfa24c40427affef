"""Mixed precision and XLA."""

import importlib.util
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_pep
from tests.precision import (
    MODELS,
    POLICIES,
    SIZES,
    batch,
    compiled,
    logits_of,
    losses_of,
    model_of,
)

# Halves have 11 and 8 bits. Logits are sums of some ten numbers of about 1,
# each rounded to half a unit of the last of them, or less.
CLOSE = {"mixed_float16": 10 * 2**-12, "mixed_bfloat16": 10 * 2**-9}


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


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_compiled_for_xla_a_model_learns_the_same(policy):
    """With sparse updates, the number of whose rows XLA does not know."""
    losses, tables = zip(
        *(
            (losses_of(model), model.embedding.pruned_embeddings())
            for model in (
                compiled(model_of("FM", policy), jit_compile)
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


def test_search_and_retraining_in_half_precision(tmp_path):
    """With the optimizer that Keras wraps in another, which scales the loss."""
    ids, labels = batch()
    data = tf.data.Dataset.from_tensors((ids, labels)).repeat(10)
    data = data.apply(tf.data.experimental.assert_cardinality(10))

    def model():
        model = keras_pep.models.DeepFM(SIZES, 8, dtype="mixed_float16")
        return compiled(model, jit_compile=False)

    searched = model()
    (ticket,) = keras_pep.search(searched, data, budgets=[100], epochs=2)
    assert ticket.embedding_parameters == 100
    assert ticket.tables["embedding"].values.dtype == np.float32
    small = keras_pep.retrain(searched, ticket, data, epochs=1)
    assert small.embedding.compute_dtype == "float16"
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    np.testing.assert_array_equal(small(ids), loaded(ids))

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
    data = tf.data.Dataset.from_tensors(batch())
    model = compiled(keras_pep.models.FM(SIZES, 8, dtype=policy), False)
    with pytest.raises(ValueError, match=f"dtype='mixed_{policy}'"):
        keras_pep.search(model, data, budgets=[100], epochs=2)
    retraining = keras_pep.callbacks.PEPRetraining(100, monitor="loss")
    with pytest.raises(ValueError, match=f"dtype='mixed_{policy}'"):
        model.fit(data, epochs=2, shuffle=False, callbacks=[retraining])


@pytest.mark.parametrize("name", ["DeepFM", "AutoInt"])
def test_jax_computes_the_same_in_half_precision(name):
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "tests.precision", name, "mixed_float16"],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    whole, close = model_of(name, "float32"), CLOSE["mixed_float16"]
    assert found["logits"] == pytest.approx(logits_of(whole), abs=close)
    losses = losses_of(compiled(whole, jit_compile=False), 2)
    assert found["losses"] == pytest.approx(losses, abs=close)
    assert found["types"] == ["float32"]
