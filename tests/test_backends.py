"""The same weights and batches give the same losses on every backend.

The losses of TensorFlow are written down here: `KERAS_BACKEND=jax pytest` runs
this file on JAX, `KERAS_BACKEND=torch pytest` on PyTorch.
"""

import keras
import numpy as np
import pytest

import keras_pep

pytestmark = pytest.mark.slow

STEPS, SIZE = 40, 64
# Of every eighth step and the last one.
LOSSES = {
    "AdamL2": [0.749324, 0.541647, 0.427132, 0.333454, 0.265072, 0.223951],
    "LazyAdam": [0.749324, 0.541414, 0.427011, 0.333741, 0.266024, 0.224894],
    "RowwiseAdagrad": [
        *(0.749324, 0.344228, 0.227413, 0.159284, 0.122376, 0.103752)
    ],
}
RATES = {"AdamL2": 0.01, "LazyAdam": 0.01, "RowwiseAdagrad": 0.1}


class Batches(keras.utils.PyDataset):
    """Ids of two fields, some of which are rare."""

    def __init__(self):
        super().__init__()
        random = np.random.default_rng(0)
        self.ids = random.integers(0, 10, (STEPS * SIZE, 2)).astype("int32")
        self.ids[:, 0] = random.zipf(2.5, STEPS * SIZE).clip(max=10) - 1
        even = self.ids.sum(axis=1, keepdims=True) % 2 == 0
        self.labels = even.astype("float32")

    def __len__(self):
        return STEPS

    def __getitem__(self, n):
        rows = slice(SIZE * n, SIZE * n + SIZE)
        return self.ids[rows], self.labels[rows]


class Losses(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.values = []

    def on_train_batch_end(self, batch, logs=None):
        self.values.append(float(logs["loss"]))


@pytest.fixture(params=LOSSES)
def optimizer(request):
    return request.param


@pytest.fixture
def model(optimizer):
    layer = keras_pep.PEPEmbedding(
        20,
        8,
        granularity="feature_dimension",
        threshold_init=-3.0,
        name="table",
    )
    model = keras_pep.models.DeepFM((10, 10), 8, layer, dropout=0.0)
    model.build()
    model.compile(
        getattr(keras_pep.optimizers, optimizer)(RATES[optimizer], l2=1e-3),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return model


def test_losses_are_those_of_tensorflow(model, optimizer):
    draw = np.random.default_rng(1)
    for weight in model.trainable_weights:
        if weight.name != "threshold_logits":
            weight.assign(draw.normal(0, 0.2, weight.shape))
    losses = Losses()
    model.fit(Batches(), verbose=0, shuffle=False, callbacks=[losses])
    assert len(losses.values) == STEPS
    found = [*losses.values[::8], losses.values[-1]]
    assert found[-1] < found[0]
    # Means of losses around 0.7 after 40 steps of float32 in another order.
    assert found == pytest.approx(LOSSES[optimizer], abs=1e-5)


@pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="only JAX compiles what is eager"
)
def test_catching_up_is_compiled_once(model):
    """Or a search would compile in every step."""
    import jax

    events = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: events.append(event)
    )
    for _ in range(2):
        model.train_on_batch(*Batches()[0])
        events.clear()
        keras_pep.optimizers.catch_up(model.optimizer)
    assert not [event for event in events if "backend_compile" in event]


def test_search_retrain_save(model, tmp_path):
    tickets = keras_pep.search(model, Batches(), budgets=[60, 30], epochs=2)
    kept = [ticket.embedding_parameters for ticket in tickets]
    assert 59 <= kept[0] <= 60
    assert 29 <= kept[1] <= 30
    small = keras_pep.retrain(model, tickets[-1], Batches(), epochs=2)
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    scores = [m.predict(Batches().ids, verbose=0) for m in (small, loaded)]
    assert abs(scores[0] - scores[1]).max() < 1e-6


def test_search_and_retrain_in_one_fit(model):
    losses = Losses()
    retraining = keras_pep.callbacks.PEPRetraining(
        30, search_epochs=2, monitor="loss"
    )
    model.fit(
        Batches(),
        epochs=5,
        verbose=0,
        shuffle=False,
        callbacks=[retraining, losses],
    )
    assert 29 <= retraining.ticket.embedding_parameters <= 30
    np.testing.assert_array_equal(
        model.embedding.pruned_embeddings() != 0,
        retraining.ticket.tables["table"].mask(),
    )
    assert int(model.optimizer.iterations) == 3 * STEPS  # of retraining alone
    # Knowing nothing is log(2), 0.69; a perceptron at random adds to it.
    for loss in (losses.values[0], losses.values[2 * STEPS]):
        assert 0.5 < loss < 1.5
    assert losses.values[-1] < 0.3
