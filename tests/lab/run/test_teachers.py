"""Small models learn half of their labels from full tables together."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_pep.data import Split
from keras_pep.lab.run.teachers import learn_from
from keras_pep.lab.run.tuning import Training

ROWS = 400


class Logits(keras.Model):
    """Ids are numbers of rows, and their logits known."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def call(self, ids):
        return keras.ops.take(self.logits, ids[:, :1])


@pytest.fixture
def made():
    """A run whose tables of 8 and 4 columns help each other; 2 do not."""
    random = np.random.default_rng(0)
    truth = random.normal(size=ROWS)
    labels = (truth > 0).astype(np.float32)[:, None]
    ids = np.arange(ROWS, dtype=np.int32)[:, None]
    logits = {
        8: truth + random.normal(0, 1.0, ROWS),
        4: truth + random.normal(0, 1.1, ROWS),
        2: random.normal(0, 10, ROWS),
    }
    rows = Split(ids, labels)
    run = SimpleNamespace(
        dataset=SimpleNamespace(validation=rows),
        rows=rows,
        directory=SimpleNamespace(
            load_model=lambda name: Logits(
                logits[int(name.removeprefix("width-"))].astype(np.float32)
            )
        ),
        do=lambda _, stage: stage(),
    )
    trainings = {n: Training(n, l2=1e-3, rate=0.01, epochs=2) for n in logits}
    aucs = dict(zip(trainings.values(), (0.8, 0.7, 0.6), strict=True))
    tuning = SimpleNamespace(best=trainings, auc=aucs.get, winner=trainings[8])
    return run, tuning, logits, labels


def test_labels_are_mixed_with_the_mean_of_the_teachers(made):
    run, tuning, logits, labels = made
    training = learn_from(run, tuning)
    assert training == Training(8, l2=5e-4, rate=0.01, epochs=2)
    taught = np.mean([1 / (1 + np.exp(-logits[n])) for n in (8, 4)], axis=0)
    np.testing.assert_allclose(
        run.rows.labels, 0.5 * labels + 0.5 * taught[:, None], rtol=1e-5
    )
    assert run.rows.labels.dtype == np.float32


def test_a_single_teacher_is_taken_as_it_was_validated(made):
    run, tuning, logits, labels = made
    tuning.best = {8: tuning.winner}
    told = {}
    run.do = lambda name, stage: told.setdefault(name, stage())
    learn_from(run, tuning)
    assert told == {"teachers": {"columns": [8], "auc": 0.8}}
    taught = 1 / (1 + np.exp(-logits[8]))
    np.testing.assert_allclose(
        run.rows.labels, 0.5 * labels + 0.5 * taught[:, None], rtol=1e-5
    )
