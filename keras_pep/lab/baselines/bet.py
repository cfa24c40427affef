"""Sizes of all features under a budget, by samples and a learned fitness."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_pep.data import Dataset
from keras_pep.lab.baselines.frequency_groups import Groups
from keras_pep.layers import variables
from keras_pep.metrics import auc, predict
from keras_pep.optimizers import catch_up
from keras_pep.pruning.collector import TimedCollector

_FIRST, _ROUNDS, _POOL = 16, 5, 256  # sampled, and then predicted
_GREEDY = 4  # of those tried in a round, beside a near and a random one
_RIDGE = 1e-3  # of the mean variance


class BudgetedTable(TimedCollector):
    """Trains the full table, then searches for the sizes of its rows (BET).

    For each budget, sizes of all rows are sampled that meet it, and scored by
    validation AUC of the trained table, of whose rows the first entries are
    kept. What has been scored teaches a predictor, which chooses from more
    samples the next to score. The best sizes are those of the ticket.

    Args:
        budgets: How many embedding parameters may stay, one ticket for each.
        epochs: How long to train.
        dataset: Whose features are in the table.

    Reference:
        - [Qu et al., 2024](https://arxiv.org/abs/2310.14884)
    """

    learns_thresholds = False

    def __init__(
        self, budgets: Sequence[int], epochs: int, dataset: Dataset
    ) -> None:
        super().__init__(budgets, epochs)
        self.dataset = dataset

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Search for all tickets in the last step."""
        super().on_train_batch_end(batch, logs)
        if self.step < self.end or not self.missing:
            return
        catch_up(self.model.optimizer)
        layers, rows = self.layers, self.dataset.validation
        tables = [variables.values_of(layer.embeddings) for layer in layers]
        groups = Groups(
            self.dataset.counts(),
            self.dataset.field_sizes,
            [table.shape[1] for table in tables],
        )

        def keep(sizes: np.ndarray) -> None:
            parts = np.split(sizes, len(tables))
            for layer, table, part in zip(layers, tables, parts, strict=True):
                first = np.arange(table.shape[1]) < part[:, None]
                variables.assign(layer.embeddings, np.where(first, table, 0))

        def score(sizes: np.ndarray) -> float:
            keep(sizes)
            return auc(rows.labels, predict(self.model, rows.ids), rows.weights)

        while self.missing:
            keep(best_sizes(groups, self.missing[0], score))
            self.count()
            self.take_ticket()


def best_sizes(
    groups: Groups, budget: int, score: Callable[[np.ndarray], float]
) -> np.ndarray:
    """Search for the sizes of rows that score best under a budget.

    Args:
        groups: Of the rows.
        budget: What the sizes add up to.
        score: What is to be large, of sizes.
    """
    random = np.random.default_rng(budget)
    tried: list[np.ndarray] = []  # weights
    known: list[np.ndarray] = []
    scores: list[float] = []

    def attempt(weights: np.ndarray) -> None:
        means = groups.means(weights, budget)
        tried.append(weights)
        known.append(groups.described(means))
        scores.append(score(groups.sizes(means, budget)))

    attempt(np.ones(groups.features.size))
    for _ in range(_FIRST - 1):
        attempt(groups.drawn(random))
    for _ in range(_ROUNDS):
        best = int(np.argmax(scores))
        pool = [groups.drawn(random) for _ in range(_POOL // 2)]
        noise = random.normal(0, 0.5, (_POOL // 2, groups.features.size))
        pool += [*(tried[best] * np.exp(noise))]
        described = np.stack(
            [groups.described(groups.means(each, budget)) for each in pool]
        )
        fitness = predicted(np.stack(known), np.array(scores), described)
        near = np.square(described - known[best]).sum(axis=1).argmin()
        greedy = np.argsort(-fitness)[:_GREEDY]
        for place in {*greedy.tolist(), int(near), random.integers(_POOL)}:
            attempt(pool[place])
    weights = tried[int(np.argmax(scores))]
    return groups.sizes(groups.means(weights, budget), budget)


def predicted(
    known: np.ndarray, scores: np.ndarray, others: np.ndarray
) -> np.ndarray:
    """Predict scores of others from known ones, by ridge regression."""
    mean = known.mean(axis=0)
    centered = known - mean
    products = centered @ centered.T
    ridge = _RIDGE * np.trace(products) / len(known) * np.eye(len(known))
    duals = np.linalg.solve(products + ridge, scores - scores.mean())
    found: np.ndarray = (others - mean) @ centered.T @ duals + scores.mean()
    return found
