"""The same weights and batches through every backend that is installed."""

import functools

import pytest

from tests.backends import run_on, skip_without

# Trains 40 steps from weights drawn by NumPy, then searches, retrains, saves.
PROGRAM = """
import json, os, sys
if os.environ["KERAS_BACKEND"] != "tensorflow":
    sys.modules["tensorflow"] = None  # must not be needed
import keras, numpy as np
import keras_pep

random = np.random.default_rng(0)
ids = random.integers(0, 10, size=(40 * 64, 2)).astype("int32")
ids[:, 0] = random.zipf(2.5, size=40 * 64).clip(max=10) - 1  # some are rare
labels = (ids.sum(axis=1, keepdims=True) % 2 == 0).astype("float32")

class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 40

    def __getitem__(self, n):
        return ids[64 * n : 64 * n + 64], labels[64 * n : 64 * n + 64]

class Losses(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.values = []

    def on_train_batch_end(self, batch, logs=None):
        self.values.append(float(logs["loss"]))

optimizer, path = sys.argv[1:]

def model():
    layer = keras_pep.PEPEmbedding(20, 8, threshold_init=-3.0, name="table")
    model = keras_pep.models.DeepFM((10, 10), 8, layer, dropout=0.0)
    model.build()
    model.compile(
        getattr(keras_pep.optimizers, optimizer)(0.01, l2=1e-3),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return model

one = model()
draw = np.random.default_rng(1)
for weight in one.trainable_weights:
    if weight.name != "threshold_logits":
        weight.assign(draw.normal(0, 0.2, weight.shape))
losses = Losses()
one.fit(Batches(), verbose=0, shuffle=False, callbacks=[losses])

# What JAX compiles to bring rows up to date, when it has done so before.
events = []
if keras.backend.backend() == "jax":
    import jax

    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: events.append(event)
    )
for _ in range(2):
    one.train_on_batch(*Batches()[0])
    events.clear()
    keras_pep.optimizers.catch_up(one.optimizer)
compiled = [event for event in events if "backend_compile" in event]

two = model()
tickets = keras_pep.search(two, Batches(), budgets=[60, 30], epochs=2)
small = keras_pep.retrain(two, tickets[-1], Batches(), epochs=2)
small.save(path)
scores = small.predict(ids, verbose=0)
loaded = keras.saving.load_model(path).predict(ids, verbose=0)

three = model()
losses_three = Losses()
callback = keras_pep.callbacks.PEPRetraining(
    30, search_epochs=2, monitor="loss"
)
three.fit(
    Batches(), epochs=5, verbose=0, shuffle=False,
    callbacks=[callback, losses_three],
)
table = three.embedding.pruned_embeddings()
mask = callback.ticket.tables["table"].mask()

print(json.dumps({
    "losses": losses.values,
    "in_one_fit": {
        "kept": callback.ticket.embedding_parameters,
        "same_mask": bool(((table != 0) == mask).all()),
        "steps": int(three.optimizer.iterations),
        "first_loss": losses_three.values[0],
        "first_loss_rewound": losses_three.values[80],
        "last_loss": losses_three.values[-1],
    },
    "compiled": compiled,
    "kept": [ticket.embedding_parameters for ticket in tickets],
    "difference": float(abs(scores - loaded).max()),
}))
"""


@functools.cache
def outcome(backend, optimizer, folder):
    path = folder / f"{backend}-{optimizer}.keras"
    return run_on(backend, "-c", PROGRAM, optimizer, path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("backends")


@pytest.mark.parametrize("optimizer", ["AdamL2", "LazyAdam"])
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_backends_agree(backend, optimizer, folder):
    skip_without(backend)
    found = outcome(backend, optimizer, folder)
    expected = outcome("tensorflow", optimizer, folder)
    assert len(expected["losses"]) == 40
    assert expected["losses"][-1] < expected["losses"][0]
    # Means of losses around 0.7 after 40 steps of float32 in another order.
    assert found["losses"] == pytest.approx(expected["losses"], abs=1e-5)
    assert found["compiled"] == []  # or a search would do it in every step
    for result in (found, expected):
        for kept, budget in zip(result["kept"], (60, 30), strict=True):
            assert budget - 1 <= kept <= budget
        assert result["difference"] < 1e-6
        fit = result["in_one_fit"]
        assert 29 <= fit["kept"] <= 30
        assert fit["same_mask"]
        assert fit["steps"] == 3 * 40  # of retraining alone
        # Knowing nothing is log(2), 0.69; a perceptron at random adds to it.
        for loss in (fit["first_loss"], fit["first_loss_rewound"]):
            assert 0.5 < loss < 1.5
        assert fit["last_loss"] < 0.3
