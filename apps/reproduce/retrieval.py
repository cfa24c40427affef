"""Compares small tables where items are retrieved: MF and LightGCN.

The protocol is that of CIESS (Qu et al., 2023) on MovieLens-1M: every rating
is positive; of each user's a half trains, a quarter chooses the epoch and a
quarter is reported, drawn at random; recall and NDCG at 5, 10 and 20 over all
items that the user has not rated in the other parts. The loss is BPR, by one
random negative item for each rating in each epoch.

Example:
    KERAS_BACKEND=jax python -m apps.reproduce.retrieval --data-dir ml-1m
"""

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import click
import keras
import numpy as np
from keras import ops

import keras_pep
from keras_pep.data import movielens_files
from keras_pep.lab.baselines import COMPRESSED
from keras_pep.lab.run.searches import main_columns, sparse_rotation
from keras_pep.lab.run.size import Size
from keras_pep.lab.text import markdown
from keras_pep.layers import PEPEmbedding, variables
from keras_pep.optimizers import AdamL2
from keras_pep.sparse import SparseTable

MODELS = {"mf": 0, "lightgcn": 3}  # layers of propagation
# Of a table's own searches; others cut the trained one, or are layers.
SEARCHES = {"pep": "budget", "paper": "paper", "magnitude": "magnitude"}
METHODS = ("full", "uniform", "keras-pep", *SEARCHES, *COMPRESSED)
CUTOFFS = (5, 10, 20)
_MEASURED = 8  # times in a training
_START = 0.3  # of the trained values, as in the default run
_TABLE = "table"


@dataclass(frozen=True)
class Ratings:
    """Pairs of user and item, by part.

    Attributes:
        users: How many.
        items: How many.
        train: int32 `(n, 2)`.
        choice: Likewise.
        report: Likewise.
    """

    users: int
    items: int
    train: np.ndarray
    choice: np.ndarray
    report: np.ndarray

    @classmethod
    def read(cls, folder: Path, seed: int) -> "Ratings":
        """Read MovieLens-1M, and draw the parts of each user."""
        frame = movielens_files.read("movielens-1m", folder, 0.001).ratings
        user = frame["user_id"].astype("category").cat.codes.to_numpy()
        item = frame["movie_id"].astype("category").cat.codes.to_numpy()
        pairs = np.stack([user, item], axis=1).astype(np.int32)
        draws = np.random.default_rng(seed).random(len(pairs))
        pairs = pairs[np.lexsort((draws, user))]
        counts = np.bincount(pairs[:, 0])
        first = np.repeat(np.cumsum(counts) - counts, counts)
        place = (np.arange(len(pairs)) - first) / counts[pairs[:, 0]]
        parts = [place < 0.5, (place >= 0.5) & (place < 0.75), place >= 0.75]
        sizes = int(user.max()) + 1, int(item.max()) + 1
        return cls(*sizes, *(pairs[part] for part in parts))

    def matrix(self, pairs: np.ndarray) -> np.ndarray:
        """Say which items a user has, bool `(users, items)`."""
        found = np.zeros((self.users, self.items), dtype=bool)
        found[pairs[:, 0], pairs[:, 1]] = True
        return found

    @cached_property
    def rated(self) -> np.ndarray:
        """Ratings of training."""
        return self.matrix(self.train)

    @property
    def normalized(self) -> np.ndarray:
        """Ratings over the roots of both counts, as LightGCN has them."""
        rated = self.rated.astype(np.float32)
        degrees = [rated.sum(axis=axis, keepdims=True) for axis in (0, 1)]
        scales = [np.maximum(degree, 1) ** -0.5 for degree in degrees]
        normalized: np.ndarray = rated * scales[0] * scales[1]
        return normalized


class Triples(keras.utils.PyDataset):
    """Batches of user, item and a random item, numbered in one table.

    Args:
        ratings: The ratings.
        size: Of a batch.
        seed: Of order and items.
    """

    def __init__(self, ratings: Ratings, size: int, seed: int) -> None:
        super().__init__()
        self.ratings, self.size = ratings, size
        self._random = np.random.default_rng(seed)
        self.on_epoch_begin()

    def __len__(self) -> int:
        return max(1, len(self.ratings.train) // self.size)

    def on_epoch_begin(self) -> None:
        """Draw an order and items that users have not rated."""
        ratings, random = self.ratings, self._random
        pairs = random.permutation(ratings.train)
        others = random.integers(ratings.items, size=len(pairs))
        for _ in range(20):
            again = np.flatnonzero(ratings.rated[pairs[:, 0], others])
            others[again] = random.integers(ratings.items, size=len(again))
        triples = np.column_stack([pairs, others]).astype(np.int32)
        triples[:, 1:] += ratings.users
        self._triples = triples

    def __getitem__(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self._triples[place * self.size : (place + 1) * self.size]
        return chosen, np.ones(len(chosen), np.float32)


class Retrieval(keras.Model):
    """Inner products of users and items: by how much an item is preferred.

    Args:
        ratings: The ratings.
        table: The layer of both, users first.
        layers: How often vectors are propagated along ratings; 0 of MF.
    """

    def __init__(self, ratings: Ratings, table: Any, layers: int) -> None:
        super().__init__()
        self.embedding, self.layers_of_graph = table, layers
        self.rows = ratings.users + ratings.items
        self.users = ratings.users
        if layers:
            self.graph = self.add_weight(
                shape=(ratings.users, ratings.items),
                initializer=keras.initializers.Constant(ratings.normalized),
                trainable=False,
                name="graph",
            )

    def vectors(self) -> Any:
        """Vectors of all users and items, propagated, and their mean."""
        found = self.embedding(ops.arange(self.rows, dtype="int32"))
        users, items = found[: self.users], found[self.users :]
        both = [(users, items)]
        for _ in range(self.layers_of_graph):
            users, items = (
                ops.matmul(self.graph, items),
                ops.matmul(ops.transpose(self.graph), users),
            )
            both.append((users, items))
        means = [sum(part) / len(both) for part in zip(*both, strict=True)]
        return ops.concatenate(means)

    def call(self, ids: Any) -> Any:
        """By how much more a user likes the first item than the second."""
        if self.layers_of_graph:
            found = ops.take(self.vectors(), ids, axis=0)
        else:
            found = self.embedding(ids)
        return ops.sum(found[:, 0] * (found[:, 1] - found[:, 2]), axis=-1)


class Best(keras.callbacks.Callback):
    """Measures every few epochs, and keeps the figures of the best epoch.

    Args:
        ratings: The ratings.
        every: How many epochs.
    """

    def __init__(self, ratings: Ratings, every: int) -> None:
        super().__init__()
        self.ratings, self.every = ratings, every
        self.found: dict[str, Any] = {"choice": -1.0}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Measure, if it is time."""
        if (epoch + 1) % self.every:
            return
        ratings = self.ratings
        vectors = ops.convert_to_numpy(self.model.vectors())
        users, items = vectors[: ratings.users], vectors[ratings.users :]
        scores = users @ items.T
        scores[ratings.rated] = -np.inf
        choice = figures(scores, ratings.matrix(ratings.choice))
        found = statistics.mean(choice.values())
        if found > self.found["choice"]:
            scores[ratings.matrix(ratings.choice)] = -np.inf
            report = figures(scores, ratings.matrix(ratings.report))
            self.found = {"choice": found, "epoch": epoch + 1, **report}


def figures(scores: np.ndarray, relevant: np.ndarray) -> dict[str, float]:
    """Recall and NDCG at every cutoff, in the mean of users with items.

    Args:
        scores: Float `(users, items)`.
        relevant: Bool `(users, items)`.
    """
    some = relevant.any(axis=1)
    scores, relevant = scores[some], relevant[some]
    most = min(max(CUTOFFS), scores.shape[1])
    top = np.argpartition(-scores, most - 1, axis=1)[:, :most]
    order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1)
    top = np.take_along_axis(top, order, axis=1)
    hits = np.take_along_axis(relevant, top, axis=1)
    gains = 1 / np.log2(np.arange(most) + 2)
    total = relevant.sum(axis=1)
    ideal = np.cumsum(gains)
    found = {}
    for k in CUTOFFS:
        least = np.minimum(total, min(k, most))
        found[f"recall@{k}"] = float((hits[:, :k].sum(axis=1) / total).mean())
        dcg = (hits[:, :k] * gains[:k]).sum(axis=1)
        found[f"ndcg@{k}"] = float((dcg / ideal[least - 1]).mean())
    return found


@dataclass(frozen=True)
class Settings:
    """How a table is trained.

    Attributes:
        layers: Of propagation.
        columns: Of the full table.
        epochs: How long.
        batch: Ratings in a batch.
        rate: Learning rate to begin with; it falls to zero.
        l2: L2 regularization of the full table.
        seed: Of all that is drawn.
    """

    layers: int
    columns: int
    epochs: int
    batch: int
    rate: float
    l2: float
    seed: int

    def model(
        self, ratings: Ratings, table: Any, share: float, *, falls: bool = True
    ) -> Retrieval:
        """Make a compiled model; L2 by the share of entries, as in a run."""
        model = Retrieval(ratings, table, self.layers)
        model(np.zeros((1, 3), np.int32))
        rate: Any = self.rate
        if falls:
            steps = self.epochs * max(1, len(ratings.train) // self.batch)
            rate = keras.optimizers.schedules.PolynomialDecay(rate, steps, 0.0)
        model.compile(
            AdamL2(rate, l2=self.l2 * share**0.6),
            keras.losses.BinaryCrossentropy(from_logits=True),
        )
        return model

    def fit(self, model: Retrieval, ratings: Ratings) -> dict[str, Any]:
        """Train a model: figures of its best epoch, by the chosen part."""
        best = Best(ratings, max(1, self.epochs // _MEASURED))
        triples = Triples(ratings, self.batch, self.seed)
        model.fit(triples, epochs=self.epochs, callbacks=[best], verbose=0)
        return best.found


def pep(ratings: Ratings, columns: int, **options: Any) -> PEPEmbedding:
    """Make a table with thresholds, at its initial values."""
    small = keras.initializers.RandomNormal(stddev=0.01)
    rows = ratings.users + ratings.items
    return PEPEmbedding(rows, columns, small, name=_TABLE, **options)


def full(
    ratings: Ratings, settings: Settings, columns: int
) -> tuple[dict[str, Any], np.ndarray]:
    """Train a full table of so many columns: figures, and its values."""
    model = settings.model(
        ratings, pep(ratings, columns), columns / settings.columns
    )
    model.embedding.clock.assign(-np.inf)  # no thresholds
    found = settings.fit(model, ratings)
    return found, variables.values_of(model.embedding.embeddings)


def small(
    ratings: Ratings, settings: Settings, table: SparseTable
) -> dict[str, Any]:
    """Train what is kept of a table, from the values that it has."""
    rows, columns = table.shape
    share = table.values.size / (rows * settings.columns)
    model = settings.model(ratings, pep(ratings, columns), share)
    model.embedding.assign_sparse(table)
    return settings.fit(model, ratings)


def cut(table: np.ndarray, budget: int) -> SparseTable:
    """Keep the largest entries of a trained table, turned to be sparse."""
    table = main_columns(table, table.shape[1])
    table = table @ sparse_rotation(table)
    mask = Size(entries=budget).largest(np.abs(table), prefixes=False)
    return SparseTable.from_dense(_START * table, mask)


def searched(
    ratings: Ratings, settings: Settings, method: str, budgets: Sequence[int]
) -> dict[int, SparseTable]:
    """Search a table: what is kept of it, at its initial values."""
    options = {}
    if method == "paper":
        options = {"granularity": "feature_dimension", "threshold_init": -8.0}
    table = pep(ratings, settings.columns, **options)
    model = settings.model(ratings, table, 1.0, falls=False)
    tickets = keras_pep.search(
        model,
        Triples(ratings, settings.batch, settings.seed),
        budgets=sorted(budgets, reverse=True),
        method=SEARCHES[method],
        epochs=settings.epochs,
    )
    return {ticket.budget: ticket.tables[_TABLE] for ticket in tickets}


def run(
    ratings: Ratings,
    settings: Settings,
    method: str,
    budgets: Sequence[int],
    trained: dict[str, np.ndarray],
) -> dict[int, dict[str, Any]]:
    """Train a method at every budget: figures, by budget.

    Args:
        ratings: The ratings.
        settings: How tables are trained.
        method: One of `METHODS`.
        budgets: How many entries may stay.
        trained: The full table, once it is trained.
    """
    rows = ratings.users + ratings.items
    keras.utils.set_random_seed(settings.seed)
    if method == "full":
        found, trained["full"] = full(ratings, settings, settings.columns)
        return {rows * settings.columns: found}
    if method in SEARCHES:
        tables = searched(ratings, settings, method, budgets)
        return {b: small(ratings, settings, t) for b, t in tables.items()}
    results = {}
    for budget in budgets:
        keras.utils.set_random_seed(settings.seed)
        if method == "uniform":
            results[budget], _ = full(ratings, settings, budget // rows)
        elif method == "keras-pep":
            if "full" not in trained:
                _, trained["full"] = full(ratings, settings, settings.columns)
            table = cut(trained["full"], budget)
            results[budget] = small(ratings, settings, table)
        else:
            layer = COMPRESSED[method](
                *(rows, settings.columns, budget, settings.seed, 0.1),
                name=_TABLE,
            )
            share = budget / (rows * settings.columns)
            model = settings.model(ratings, layer, share)
            results[budget] = settings.fit(model, ratings)
    return results


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), required=True)
@click.option("--model", type=click.Choice([*MODELS]), default="mf")
@click.option(
    *("--method", "methods"),
    type=click.Choice(METHODS),
    multiple=True,
    default=METHODS[:6],
    show_default=True,
    help="Repeatable.",
)
@click.option(
    *("--sparsity", "sparsities"),
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    multiple=True,
    default=(0.8, 0.9, 0.95),
    show_default=True,
    help="Share of the entries to prune. Repeatable.",
)
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--columns", default=64, show_default=True)
@click.option("--epochs", default=40, show_default=True)
@click.option("--batch", default=10_000, show_default=True)
@click.option("--rate", default=0.01, show_default=True)
@click.option("--l2", default=3e-6, show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs", "retrieval.jsonl"),
    show_default=True,
    help="Results; what is there is not trained again.",
)
def main(
    data_dir: Path,
    model: str,
    methods: Sequence[str],
    sparsities: Sequence[float],
    seeds: str,
    columns: int,
    epochs: int,
    batch: int,
    rate: float,
    l2: float,
    out: Path,
) -> None:
    """Train every method at every sparsity; print recall and NDCG."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.touch()
    results = [json.loads(line) for line in out.read_text().splitlines()]
    asked = []
    for seed in map(int, seeds.split(",")):
        ratings = Ratings.read(data_dir, seed)
        settings = Settings(
            *(MODELS[model], columns, epochs, batch, rate, l2, seed)
        )
        entries = (ratings.users + ratings.items) * columns
        budgets = [round((1 - share) * entries) for share in sparsities]
        trained: dict[str, np.ndarray] = {}
        for method in methods:
            key = {"model": model, "method": method, **vars(settings)}
            key["budgets"] = budgets
            asked.append(key)
            if any(key.items() <= each.items() for each in results):
                continue
            begun = time.monotonic()
            found = run(ratings, settings, method, budgets, trained)
            seconds = round(time.monotonic() - begun, 1)
            results.append({**key, "found": found, "seconds": seconds})
            line = json.dumps(results[-1])
            click.echo(line, err=True)
            with out.open("a") as file:
                file.write(f"{line}\n")
    chosen = [
        each
        for each in results
        if any(key.items() <= each.items() for key in asked)
    ]
    click.echo(table(chosen))


def table(results: Sequence[dict[str, Any]]) -> str:
    """Figures by method and entries as Markdown, mean of the seeds."""
    names = [f"{what}@{k}" for k in CUTOFFS for what in ("recall", "ndcg")]
    rows: list[list[str]] = []
    seen = dict.fromkeys(
        (each["method"], int(budget))
        for each in results
        for budget in each["found"]
    )
    for method, budget in seen:
        of = [
            {int(b): f for b, f in each["found"].items()}.get(budget)
            for each in results
            if each["method"] == method
        ]
        some = [each for each in of if each]
        means = [statistics.mean(each[name] for each in some) for name in names]
        rows.append([method, f"{budget:,}", *(f"{mean:.4f}" for mean in means)])
    return markdown(["method", "entries", *names], rows)


if __name__ == "__main__":
    main()
