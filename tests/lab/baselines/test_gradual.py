"""Gradual magnitude pruning, against the schedule computed by hand."""

import keras
import numpy as np
import pytest

from keras_pep.lab.baselines import GradualMagnitude
from keras_pep.models import FM
from keras_pep.optimizers import AdamL2, LazyAdam, RowwiseAdagrad
from keras_pep.pruning.search import collect


class Kept(keras.callbacks.Callback):
    """Which entries are not zero after each step."""

    def __init__(self):
        super().__init__()
        self.masks = []

    def on_train_batch_end(self, batch, logs=None):
        table = keras.ops.convert_to_numpy(self.model.embedding.embeddings)
        self.masks.append(table != 0)


@pytest.mark.parametrize("optimizer", [AdamL2, LazyAdam, RowwiseAdagrad])
def test_entries_fall_on_the_cubic_schedule_and_stay_away(optimizer):
    keras.utils.set_random_seed(0)
    model = FM([20, 30], 8)
    model.compile(
        optimizer(0.05, l2=1e-4),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    random = np.random.default_rng(0)
    ids = random.integers([20, 30], size=(320, 2))
    labels = (ids.sum(axis=1) > 24).astype("float32")[:, None]
    kept = Kept()
    collector = GradualMagnitude([40], epochs=2)
    (ticket,) = collect(
        *(model, collector, (ids, labels)),
        epochs=2,
        batch_size=32,
        callbacks=[kept],
    )
    # 400 entries, 20 steps, of which the first 4 prune nothing, and the last
    # has nothing to do.
    done = np.clip((np.arange(1, 20) / 20 - 0.2) / 0.8, 0, 1)
    expected = np.rint(400 * (0.1 + 0.9 * (1 - done) ** 3))
    assert [mask.sum() for mask in kept.masks] == expected.tolist()
    for before, after in zip(kept.masks, kept.masks[1:], strict=False):
        assert not (after & ~before).any()
    learned = ticket.learned_tables()["embedding"]
    np.testing.assert_array_equal(
        learned.to_dense(),
        keras.ops.convert_to_numpy(model.embedding.embeddings),
    )
    assert ticket.embedding_parameters == 40
