"""The full tables of tuning together, as a teacher of small ones."""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from keras_pep.lab.presets import preset
from keras_pep.lab.run.runner import Run
from keras_pep.lab.run.tuning import Training, Tuning
from keras_pep.metrics import auc, predict
from keras_pep.pruning import soft_labels

logger = logging.getLogger(__name__)


def learn_from(run: Run, tuning: Tuning) -> Training:
    """Mix the labels with what the full tables have learned together.

    The best tables of other widths are teachers beside the dense one, as long
    as the mean of their logits has a higher validation AUC. Half of a label is
    the mean of their probabilities.

    Args:
        run: The run; from here on it learns the mixed labels.
        tuning: How full tables were trained.

    Returns:
        How a table is trained on them. Its L2 is weaker, since soft labels
        keep it from overfitting too.
    """
    model = cache(lambda columns: run.directory.load_model(f"width-{columns}"))
    found = run.do("teachers", lambda: _teachers(run, tuning, model))
    teachers = found["columns"]
    widths = " and ".join(map(str, teachers))
    logger.info(
        f"labels: half from full tables of {widths} columns, "
        f"val AUC {found['auc']:.4f}"
    )
    rows, share = run.rows, preset("distillation")
    labels = [
        soft_labels(model(columns), rows.ids, rows.labels, share)
        for columns in teachers
    ]
    mixed = np.mean(labels, axis=0).astype(np.float32)
    run.rows = replace(rows, labels=mixed)
    best = tuning.winner
    return replace(best, l2=preset("soft_l2") * best.l2)


def _teachers(
    run: Run, tuning: Tuning, model: Callable[[int], Any]
) -> dict[str, Any]:
    """Choose the widths, the best first."""
    if len(tuning.best) == 1:  # whose AUC is known
        only = tuning.winner
        return {"columns": [only.columns], "auc": tuning.auc(only)}
    rows = run.dataset.validation
    chosen: list[int] = []
    best, logits = 0.0, np.zeros(len(rows))
    for training in sorted(tuning.best.values(), key=tuning.auc, reverse=True):
        added = predict(model(training.columns), rows.ids).ravel()
        together = (logits * len(chosen) + added) / (len(chosen) + 1)
        found = auc(rows.labels, together, rows.weights)
        if found > best:
            best, logits = found, together
            chosen.append(training.columns)
    return {"columns": chosen, "auc": best}
