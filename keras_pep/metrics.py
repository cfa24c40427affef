"""Exact metrics over a whole split: those of every figure of this package."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_pep.distribution.row_parallel import batch_shards

__all__ = [
    "auc",
    "auc_difference_error",
    "auc_error",
    "evaluate",
    "log_loss",
    "predict",
]

_READ = 1 << 20  # rows that are in memory at once
# Rows from which `Model.predict`, which traces each model first, is faster.
_TRACED = 1 << 17


def auc(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Area under the ROC curve, exact, ties counted half.

    Args:
        labels: 0 or 1, `(rows,)` or `(rows, 1)`.
        scores: Any monotone function of the probability, likewise.
        weights: How much each row counts, likewise; by default all alike.

    Returns:
        Chance that a positive scores above a negative, each drawn by its
        weight; NaN if there is only one kind, or a score is NaN.

    Example:

    ```python
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.4, 0.8])
    print(keras_pep.metrics.auc(labels, scores))  # 0.875
    ```

    Reference:
        - [Hanley & McNeil, 1982](https://doi.org/10.1148/radiology.143.1.7063747)
    """
    labels, scores = _columns(labels, scores)
    positive = labels.astype(bool)
    if weights is not None:
        return _weighted_auc(positive, scores, _of_rows(weights, labels))
    positives = int(positive.sum())
    negatives = positive.size - positives
    if not positives or not negatives or np.isnan(scores).any():
        return float("nan")
    _, ties, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[ties]
    wins = ranks[positive].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * negatives))


def _weighted_auc(
    positive: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> float:
    _, ties = np.unique(scores, return_inverse=True)
    wins, losses = (
        np.bincount(ties, weights * part) for part in (positive, ~positive)
    )
    pairs = wins.sum() * losses.sum()
    if not pairs or np.isnan(scores).any():
        return float("nan")
    below = losses.cumsum() - losses / 2
    return float((wins * below).sum() / pairs)


def auc_error(
    labels: np.ndarray, value: float, weights: np.ndarray | None = None
) -> float:
    """Standard error of an AUC, from its value and the number of rows.

    Args:
        labels: 0 or 1, `(rows,)` or `(rows, 1)`.
        value: The AUC.
        weights: How much each row counts, likewise; rows of unequal weights
            are as good as fewer of equal ones (Kish, 1965).

    Example:

    ```python
    labels = np.array([0, 1] * 500)
    print(keras_pep.metrics.auc_error(labels, 0.8))  # about 0.014
    ```

    Reference:
        - [Hanley & McNeil, 1982](https://doi.org/10.1148/radiology.143.1.7063747)
    """
    positive = np.reshape(labels, -1) != 0
    if weights is None:
        positives = float(np.count_nonzero(positive))
        negatives = positive.size - positives
    else:
        weights = _of_rows(weights, positive)
        positives, negatives = (
            part.sum() ** 2 / max((part**2).sum(), np.finfo(float).tiny)
            for part in (weights[positive], weights[~positive])
        )
    if not positives or not negatives:
        return float("nan")
    square = value * value
    two_positives = value / (2 - value) - square
    two_negatives = 2 * square / (1 + value) - square
    variance = (
        value * (1 - value)
        + (positives - 1) * two_positives
        + (negatives - 1) * two_negatives
    ) / (positives * negatives)
    return float(np.sqrt(variance))


def auc_difference_error(
    labels: np.ndarray,
    scores: np.ndarray,
    others: np.ndarray,
    weights: np.ndarray | None = None,
) -> float:
    """Standard error of the difference of two AUCs on the same rows.

    Args:
        labels: 0 or 1, `(rows,)` or `(rows, 1)`.
        scores: Scores of a model, likewise.
        others: Scores of another model.
        weights: How much each row counts, likewise; by default all alike.

    Example:

    ```python
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 1000)
    scores = labels + random.normal(size=1000)
    others = scores + random.normal(size=1000)
    print(keras_pep.metrics.auc_difference_error(labels, scores, others))
    ```

    Reference:
        - [DeLong et al., 1988](https://doi.org/10.2307/2531595)
    """
    positive = np.reshape(labels, -1).astype(bool)
    weights = np.ones(positive.size) if weights is None else weights
    every = _of_rows(weights, labels)
    variance = 0.0
    for part, a, b in zip(
        (positive, ~positive),
        _wins(labels, scores, every),
        _wins(labels, others, every),
        strict=True,
    ):
        share = every[part] / every[part].sum()
        difference = a - b
        off = difference - (share * difference).sum()
        variance += (share**2 * off**2).sum() * part.sum() / (part.sum() - 1)
    return float(np.sqrt(variance))


def _wins(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> list[np.ndarray]:
    """Share of the other kind that each positive, and negative, wins over."""
    labels, scores = _columns(labels, scores)
    positive = labels.astype(bool)
    found = []
    for part, sign in ((positive, 1), (~positive, -1)):
        own, other = sign * scores[part], sign * scores[~part]
        order = np.argsort(other)
        sums = np.append(0.0, weights[~part][order].cumsum())
        below = sums[np.searchsorted(other[order], own)]
        up_to = sums[np.searchsorted(other[order], own, side="right")]
        found.append((below + up_to) / (2 * sums[-1]))
    return found


def log_loss(
    labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Mean negative log-likelihood, in nats.

    Args:
        labels: 0 or 1, `(rows,)` or `(rows, 1)`.
        logits: Log-odds of a 1, likewise.
        weights: How much each row counts, likewise; by default all alike.

    Example:

    ```python
    labels, logits = np.array([0, 1]), np.array([0.0, 0.0])
    print(keras_pep.metrics.log_loss(labels, logits))  # log(2): 0.693...
    ```
    """
    labels, logits = _columns(labels, logits)
    logits = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):  # NaN of a model that has diverged
        losses = np.logaddexp(0.0, logits) - labels * logits
        if weights is None:
            return float(np.mean(losses))
        return float(np.average(losses, weights=_of_rows(weights, labels)))


def evaluate(
    model: keras.Model,
    inputs: Any,
    labels: np.ndarray,
    batch_size: int = 8192,
    weights: np.ndarray | None = None,
) -> dict[str, float]:
    """Exact AUC and log-loss of a model whose outputs are logits.

    Args:
        model: The model.
        inputs: Inputs of the model: an array, a dict or tuple of arrays, or
            the ids of a `keras_pep.data.Split`.
        labels: 0 or 1, `(rows,)` or `(rows, 1)`.
        batch_size: Rows to predict at once.
        weights: How much each row counts, likewise; by default all alike.

    Returns:
        `{"auc": ..., "logloss": ...}`.

    Example:

    ```python
    ids, labels = validation
    print(keras_pep.metrics.evaluate(model, ids, labels))
    ```
    """
    logits = predict(model, inputs, batch_size)
    return {
        "auc": auc(labels, logits, weights),
        "logloss": log_loss(labels, logits, weights),
    }


def predict(
    model: keras.Model, inputs: Any, batch_size: int = 8192
) -> np.ndarray:
    """Outputs of a model for rows that need not be in memory.

    Args:
        model: The model.
        inputs: Inputs of the model: an array, a dict or tuple of arrays, or
            the ids of a `keras_pep.data.Split`.
        batch_size: Rows to predict at once.

    Example:

    ```python
    ids, labels = validation
    logits = keras_pep.metrics.predict(model, ids)
    ```
    """
    shards = batch_shards()
    batch_size += -batch_size % shards
    every = len(keras.tree.flatten(inputs)[0])
    parts = []
    for start in range(0, every, _READ):
        rows = min(_READ, every - start)

        def filled(each: Any, start: int = start, rows: int = rows) -> Any:
            part = each[start : start + rows]
            more = np.repeat(part[:1], -rows % shards, axis=0)
            return np.concatenate([part, more]) if len(more) else part

        part = keras.tree.map_structure(filled, inputs)
        if shards > 1 or every > _TRACED:
            parts.append(model.predict(part, batch_size, verbose=0)[:rows])
        else:
            parts += _called(model, part, batch_size)
    return np.concatenate(parts)


def _called(
    model: keras.Model, inputs: Any, batch_size: int
) -> Iterator[np.ndarray]:
    """Outputs of a model that is not traced for them."""
    rows = len(keras.tree.flatten(inputs)[0])
    for start in range(0, rows, batch_size):
        part = slice(start, start + batch_size)
        batch = keras.tree.map_structure(lambda x, part=part: x[part], inputs)
        out = model(batch, training=False)
        yield keras.ops.convert_to_numpy(out)


def _columns(
    labels: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Flatten both to vectors, which must be of the same length."""
    columns = np.reshape(labels, -1), np.reshape(scores, -1)
    if columns[0].size != columns[1].size:
        raise ValueError(
            "There must be one score for each label. Received: labels of shape "
            f"{np.shape(labels)}, scores of shape {np.shape(scores)}"
        )
    return columns


def _of_rows(weights: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Make weights a vector of float64, one for each label."""
    if np.size(weights) != np.size(labels):
        raise ValueError(
            "There must be one weight for each label. Received: labels of "
            f"shape {np.shape(labels)}, weights of shape {np.shape(weights)}"
        )
    return np.reshape(weights, -1).astype(np.float64)
