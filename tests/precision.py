"""Models in half precision: logits, losses, types.

Run as a program it prints those of one, so that other backends can be asked.
"""

import json
import sys

import keras
import numpy as np

import keras_pep

SIZES = (20, 20, 20)
POLICIES = ("mixed_float16", "mixed_bfloat16")
MODELS = {
    "LogisticRegression": {},
    "FM": {"embedding_dim": 8},
    "DeepFM": {"embedding_dim": 8, "hidden_units": (8,), "dropout": 0.0},
    "AutoInt": {
        **{"embedding_dim": 8, "attention_units": 8},
        **{"hidden_units": (8,), "dropout": 0.0},
    },
}


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


def compiled(model, jit_compile):
    model.compile(
        keras_pep.optimizers.LazyAdam(0.01),
        keras.losses.BinaryCrossentropy(from_logits=True),
        jit_compile=jit_compile,
    )
    return model


def logits_of(model):
    logits = keras.ops.cast(model(batch()[0]), "float32")
    return keras.ops.convert_to_numpy(logits)[:, 0]


def losses_of(model, steps=5):
    return [float(model.train_on_batch(*batch())) for _ in range(steps)]


def outcome(name, policy):
    model = model_of(name, policy)
    return {
        "logits": logits_of(model).tolist(),
        "losses": losses_of(compiled(model, jit_compile=True), 2),
        "types": sorted({weight.dtype for weight in model.weights}),
    }


if __name__ == "__main__":
    json.dump(outcome(*sys.argv[1:]), sys.stdout)
