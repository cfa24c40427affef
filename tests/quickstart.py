"""Prunes a model on arrays: a program that needs the library alone."""

import json

import keras
import numpy as np

import keras_pep

keras.utils.set_random_seed(0)
random = np.random.default_rng(0)
ids = random.integers(0, 20, (512, 2))
labels = (ids[:, :1] % 2 == ids[:, 1:] % 2).astype("float32")
model = keras_pep.models.FM([20, 20], 4)
model.compile(
    keras_pep.optimizers.AdamL2(0.05), keras.losses.BinaryCrossentropy(True)
)
train = ids, labels
(ticket,) = keras_pep.search(model, train, train, [40], epochs=6)
small = keras_pep.retrain(model, ticket, train, train, epochs=6)
auc = keras_pep.metrics.evaluate(small, ids, labels)["auc"]
assert ticket.embedding_parameters == 40
assert auc > 0.9
print(json.dumps([ticket.embedding_parameters, auc]))
