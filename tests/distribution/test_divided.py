"""Two workers that read their halves of files learn what one process does."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.workers import environments

pytestmark = [pytest.mark.slow, pytest.mark.requires_tensorflow]

ROWS, BATCH, COLUMNS = 10 * 1024, 64, 3

PROGRAM = """
import contextlib, json, sys
from pathlib import Path
folder, workers = Path(sys.argv[1]), int(sys.argv[2])
import tensorflow as tf
strategy = None
if workers > 1:
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
import keras, numpy as np
import keras_pep
from keras_pep.data import Split, batches, pipeline
from keras_pep.data.stored import StoredColumns
from keras_pep.distribution.replicas import prepare, share_of

pipeline._BLOCK, pipeline._WINDOW = 128, 16  # five windows of 2,048 rows
rows, read = [], StoredColumns.__getitem__

def noted(self, part):
    found = read(self, part)
    rows.append(len(found))
    return found

StoredColumns.__getitem__ = noted
split = Split(
    StoredColumns([folder / f"{n}.npy" for n in range(3)]),
    np.load(folder / "label.npy"),
)
share = share_of(strategy, 64)
keras.utils.set_random_seed(0)
with strategy.scope() if strategy else contextlib.nullcontext():
    model = keras_pep.models.DeepFM(
        (50, 50, 50), 4, hidden_units=(8,), dropout=0.0
    )
    model.build()
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras_pep.optimizers.LazyAdam(0.01), loss)
prepare(model)
losses = []
for position in (0, 160):  # the second epoch is taken up again
    data = batches(split, 64, 0, position, share)
    fitted = model.fit(data, epochs=1, verbose=0, shuffle=False)
    losses += fitted.history["loss"]
print(json.dumps([share, sum(rows), losses]))
"""


def test_two_workers_read_half_each_and_have_the_same_losses(tmp_path):
    random = np.random.default_rng(0)
    ids = random.integers(0, 50, (ROWS, COLUMNS))
    for place, column in enumerate(ids.T):
        np.save(tmp_path / f"{place}.npy", column.astype(np.uint8))
    np.save(tmp_path / "label.npy", np.float32(ids.sum(1) % 2))
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path), workers],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for workers, environment in (
            ("1", {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}),
            *(("2", each) for each in environments()),
        )
    ]
    found = []
    for process in started:
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 0
        found.append(json.loads(out.splitlines()[-1]))
    (_, rows, losses), *both = found
    assert rows == 2 * ROWS
    assert [share for share, *_ in both] == [[0, 2], [1, 2]]
    for _, half, same in both:
        assert half == ROWS
        # Sums of float32 in another order.
        assert same == pytest.approx(losses, rel=1e-5)
