"""Makes the table of compressors by Tsang & Ahle (2023) again, with ours.

MovieLens-1M without ratings of 3; the last two ratings of each user are
reported; the logit is the product of a user's and a film's vector.

Example:
    KERAS_BACKEND=jax python -m apps.reproduce.cce --data-dir ml-1m --seeds 1
"""

import json
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import jax
import keras
import numpy as np
from keras import ops

from keras_pep.data import movielens_files
from keras_pep.lab.baselines import (
    COMPRESSED,
    BudgetTooSmallError,
    CompressedEmbedding,
)
from keras_pep.lab.run.searches import main_columns
from keras_pep.lab.run.size import Size
from keras_pep.lab.text import markdown
from keras_pep.layers import PEPEmbedding, RowEmbedding, variables
from keras_pep.metrics import auc
from keras_pep.optimizers import AdamL2
from keras_pep.pruning.continuing import norms_of
from keras_pep.sparse import SparseTable

OURS, WITHOUT_BIAS, NARROW = "keras-pep", "keras-pep-without-bias", "narrow"
METHODS = (OURS, WITHOUT_BIAS, NARROW, "full", *COMPRESSED)
BUDGETS = (8_192, 16_384, 32_768, 65_536, 131_072)
_DRAWN = (OURS, NARROW, "low-rank", "hash-embedding", "cce")
_DIM, _BATCH, _EPOCHS = 32, 4096, 30  # of the published table
_PARTS = 6  # of an epoch, each of many steps
_COLUMNS = 17  # of the table that ours start from
# Chosen on seed 1 by the published rule.
_RATE, _L2, _START, _OUR_EPOCHS = 0.01, 7e-6, 0.3, 12


@dataclass(frozen=True)
class Rows:
    """Pairs of user and film, numbered in one table, and their labels."""

    ids: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Data:
    """Rows to train on, to choose the epoch by, and to report."""

    train: Rows
    choice: Rows
    report: Rows
    users: int
    films: int

    @classmethod
    def read(cls, folder: Path, rule: str) -> "Data":
        """Read MovieLens-1M.

        Args:
            folder: As it comes out of GroupLens' archive.
            rule: `"published"`: the best epoch on the reported rows, as in the
                paper; `"clean"`: that on the last rating of each user before
                those, which is left out of training.
        """
        frame = movielens_files.read("movielens-1m", folder, 0.001).ratings
        frame = frame[frame["rating"] != 3]
        frame = frame.sort_values(["user_id", "timestamp"], kind="stable")
        user = frame["user_id"].astype("category").cat.codes.to_numpy()
        film = frame["movie_id"].astype("category").cat.codes.to_numpy()
        users, films = int(user.max()) + 1, int(film.max()) + 1
        ids = np.stack([user, film + users], axis=1).astype(np.int32)
        labels = (frame["rating"] > 3).to_numpy(np.float32)
        place = frame[::-1].groupby("user_id").cumcount()[::-1].to_numpy()

        def rows(chosen: np.ndarray) -> Rows:
            return Rows(ids[chosen], labels[chosen])

        report, held_out = rows(place < 2), place == 2
        if rule == "published":
            return cls(rows(place >= 2), report, report, users, films)
        return cls(rows(place > 2), rows(held_out), report, users, films)


def product(vectors: Any) -> Any:
    """Multiply the vectors of user and film, `(batch, 2, dim)`."""
    return ops.sum(vectors[:, 0] * vectors[:, 1], axis=-1)


def compressed(data: Data, method: str, budget: int, seed: int) -> keras.Model:
    """Make the published model: a table for users and one for films."""
    pair = keras.Input((2,), dtype="int32")
    vectors = []
    for number, size in enumerate((data.users, data.films)):
        name = ("users", "films")[number]
        if method == "full":
            draw = keras.initializers.RandomUniform(-(_DIM**-0.5), _DIM**-0.5)
            table: Any = RowEmbedding(size, _DIM, draw, name=name)
        else:
            kind = COMPRESSED[method]
            table = kind(size, _DIM, budget // 2, seed=seed, name=name)
        vectors.append(table(pair[:, number] - number * data.users))
    return keras.Model(pair, ops.sum(vectors[0] * vectors[1], axis=-1))


def biased(data: Data, columns: int, *, bias: bool = True) -> keras.Model:
    """Make our model: one table, whose first column is added to the product.

    That is the product of vectors with a 1 beside it: of `(u_0, 1, u_1 ...)`
    and `(1, f_0, f_1 ...)`. Without a bias all columns are multiplied.
    """
    pair = keras.Input((2,), dtype="int32")
    small = keras.initializers.RandomUniform(-0.02, 0.02)
    features = data.users + data.films
    vectors = PEPEmbedding(features, columns, small, name="table")(pair)
    products = ops.prod(vectors[:, :, int(bias) :], axis=1)
    added = ops.sum(vectors[:, :, : int(bias)], axis=(1, 2))
    return keras.Model(pair, added + ops.sum(products, axis=-1))


def trained(
    model: keras.Model,
    optimizer: keras.Optimizer,
    data: Data,
    seed: int,
    epochs: int,
) -> dict[str, float]:
    """Train a model; its weights are those of the last epoch.

    Steps are compiled by JAX, many at once.

    Args:
        model: Takes ids `(batch, 2)`, returns logits `(batch,)`.
        optimizer: What to train with.
        data: The rows.
        seed: Of their order.
        epochs: How long.

    Returns:
        AUC of the best epoch on the rows it is chosen by and on those
        reported, the epoch and the seconds.
    """
    random, begun = np.random.default_rng(seed), time.monotonic()
    optimizer.build(model.trainable_variables)
    callbacks = keras.callbacks.CallbackList(
        [
            callback
            for layer in model.layers
            if isinstance(layer, CompressedEmbedding)
            for callback in layer.callbacks()
        ],
        model=model,
    )
    lists = (
        model.trainable_variables,
        model.non_trainable_variables,
        optimizer.variables,
    )

    def loss(weights: Any, others: Any, ids: Any, labels: Any) -> Any:
        logits, others = model.stateless_call(weights, others, ids)
        return ops.mean(ops.softplus(logits) - labels * logits), others

    def step(state: Any, batch: Any) -> Any:
        weights, others, slots = state
        grad = jax.grad(loss, has_aux=True)
        gradients, others = grad(weights, others, *batch)
        weights, slots = optimizer.stateless_apply(slots, gradients, weights)
        return (weights, others, slots), None

    @jax.jit
    def steps(state: Any, ids: Any, labels: Any) -> Any:
        return jax.lax.scan(step, state, (ids, labels))[0]

    best: dict[str, float] = {"choice": 0.0}
    rows = len(data.train.labels)
    batch = min(_BATCH, rows // _PARTS)
    shape = _PARTS, rows // batch // _PARTS, batch
    for epoch in range(epochs):
        callbacks.on_epoch_begin(epoch)
        order = random.permutation(rows)
        order = order[: math.prod(shape)].reshape(shape)
        for chosen in order:
            state = tuple([v.value for v in each] for each in lists)
            labels = data.train.labels[chosen]
            state = steps(state, data.train.ids[chosen], labels)
            for some, values in zip(lists, state, strict=True):
                for variable, value in zip(some, values, strict=True):
                    variable.assign(value)
        found = {
            name: auc(rows.labels, np.asarray(model(rows.ids)))
            for name, rows in (("choice", data.choice), ("report", data.report))
        }
        if found["choice"] > best["choice"]:
            best = {**found, "epoch": epoch + 1}
    return {**best, "seconds": round(time.monotonic() - begun, 1)}


def published(
    data: Data, method: str, budget: int, seed: int
) -> dict[str, float]:
    """Train a compressor by the published settings."""
    model = compressed(data, method, budget, seed)
    # What PyTorch's AdamW does by default.
    optimizer = keras.optimizers.AdamW(1e-3, weight_decay=0.01, epsilon=1e-8)
    return {
        "parameters": trained_parameters(model),
        **trained(model, optimizer, data, seed, _EPOCHS),
    }


def narrow(data: Data, budget: int, seed: int) -> dict[str, float]:
    """Train a full table of as many columns as the budget holds."""
    columns = budget // (data.users + data.films)
    if not columns:
        raise BudgetTooSmallError(budget)
    model = biased(data, columns)
    model.get_layer("table").clock.assign(-np.inf)  # no thresholds
    optimizer = falling(data, columns / _COLUMNS)
    return {
        "parameters": trained_parameters(model) - 1,
        **trained(model, optimizer, data, seed, _OUR_EPOCHS),
    }


def pruned(
    data: Data,
    table: np.ndarray,
    budget: int,
    seed: int,
    *,
    bias: bool,
) -> dict[str, float]:
    """Cut the rows of a trained table where little follows, and retrain.

    Args:
        data: The rows.
        table: Trained and rotated, `(features, columns)`.
        budget: Entries that stay: all parameters that there are.
        seed: Of the order of rows.
        bias: Whether the first column is one.
    """
    features = len(table)
    columns = min(table.shape[1], 4 * -(-budget // features))
    table = table[:, :columns]
    # By what entries do to the logit: times the size of their partners.
    effects, first = table.copy(), int(bias)
    users, films = effects[: data.users, first:], effects[data.users :, first:]
    sizes = [np.sqrt(np.square(part).mean(axis=0)) for part in (users, films)]
    users *= sizes[1]
    films *= sizes[0]
    mask = Size(entries=budget).largest(norms_of(effects))
    model = biased(data, columns, bias=bias)
    start = SparseTable.from_dense(_START * table, mask)
    model.get_layer("table").assign_sparse(start)
    optimizer = falling(data, budget / features / _COLUMNS)
    found = trained(model, optimizer, data, seed, _OUR_EPOCHS)
    return {"parameters": int(mask.sum()), **found}


def warm(data: Data, seed: int, *, bias: bool) -> np.ndarray:
    """Train a wide table, and rotate it: its first columns matter most."""
    model = biased(data, _COLUMNS, bias=bias)
    layer = model.get_layer("table")
    layer.clock.assign(-np.inf)
    trained(model, falling(data, 1.0), data, seed, _OUR_EPOCHS)
    first, table = int(bias), variables.values_of(layer.embeddings)
    users, films = table[: data.users, first:], table[data.users :, first:]
    share = (np.square(films).mean() / np.square(users).mean()) ** 0.25
    users *= share  # as large as films, which changes no product
    films /= share
    rotated = main_columns(table[:, first:], _COLUMNS - first)
    return np.concatenate([table[:, :first], rotated], axis=1)


def falling(data: Data, share: float) -> keras.Optimizer:
    """Adam at a rate that falls to zero, L2 by the share of columns."""
    steps = _OUR_EPOCHS * max(1, len(data.train.labels) // _BATCH)
    rate = keras.optimizers.schedules.PolynomialDecay(_RATE, steps, 0.0)
    return AdamL2(rate, l2=_L2 * min(share, 1.0) ** 0.6)


def trained_parameters(model: keras.Model) -> int:
    """Count what is trained."""
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), required=True)
@click.option(
    "--method",
    "methods",
    type=click.Choice(METHODS),
    multiple=True,
    help="Repeatable.  [default: all]",
)
@click.option(
    "--budget",
    "budgets",
    type=int,
    multiple=True,
    default=BUDGETS,
    show_default=True,
    help="Parameters of both tables. Repeatable.",
)
@click.option("--seeds", default="1,2,3", show_default=True)
@click.option(
    "--rule",
    type=click.Choice(["published", "clean"]),
    default="published",
    show_default=True,
    help="The best epoch on the reported rows, or on a rating before them.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs", "cce.jsonl"),
    show_default=True,
    help="Results; what is there is not trained again.",
)
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to leave a metrics.json that docs/figure.py draws.",
)
def main(
    data_dir: Path,
    methods: Sequence[str],
    budgets: Sequence[int],
    seeds: str,
    rule: str,
    out: Path,
    run_dir: Path | None,
) -> None:
    """Train every method at every budget; print AUC as a table."""
    if keras.backend.backend() != "jax":
        raise click.UsageError(
            "Steps are compiled by JAX: run it with KERAS_BACKEND=jax. Found: "
            f"{keras.backend.backend()}."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.touch()
    results = [json.loads(line) for line in out.read_text().splitlines()]
    known = {key_of(each) for each in results}
    data = Data.read(data_dir, rule)
    full = _DIM * (data.users + data.films)
    for seed in map(int, seeds.split(",")):
        for method in methods or METHODS:
            of_method = [
                {"rule": rule, "method": method, "budget": b, "seed": seed}
                for b in (budgets if method != "full" else [full])
            ]
            missing = [e for e in of_method if key_of(e) not in known]
            for each, found in zip(
                missing, runs(data, method, missing, seed), strict=True
            ):
                results.append({**each, **found})
                click.echo(json.dumps(results[-1]), err=True)
                with out.open("a") as file:
                    file.write(f"{json.dumps(results[-1])}\n")
    of_rule = [r for r in results if r["rule"] == rule]
    click.echo(table(of_rule))
    if run_dir is not None:
        metrics = json.dumps(to_draw(of_rule))
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "metrics.json").write_text(metrics)


def runs(
    data: Data, method: str, missing: Sequence[dict[str, Any]], seed: int
) -> Iterator[dict[str, float]]:
    """Train a method at the budgets that are missing."""
    start, bias = None, method != WITHOUT_BIAS
    for each in missing:
        keras.utils.set_random_seed(seed)
        try:
            if method in (OURS, WITHOUT_BIAS):
                if start is None:
                    start = warm(data, seed, bias=bias)
                yield pruned(data, start, each["budget"], seed, bias=bias)
            elif method == NARROW:
                yield narrow(data, each["budget"], seed)
            else:
                yield published(data, method, each["budget"], seed)
        except BudgetTooSmallError:
            yield {}


def key_of(result: dict[str, Any]) -> tuple[Any, ...]:
    """Tell results apart."""
    return tuple(result[k] for k in ("rule", "method", "budget", "seed"))


def table(results: Sequence[dict[str, Any]]) -> str:
    """AUC by method and budget as Markdown, mean of the seeds."""
    budgets = sorted({each["budget"] for each in results})
    rows = []
    for method in dict.fromkeys(each["method"] for each in results):
        cells = []
        for budget in budgets:
            aucs = [
                each["report"]
                for each in results
                if (each["method"], each["budget"]) == (method, budget)
                and "report" in each
            ]
            cells.append(f"{statistics.mean(aucs):.4f}" if aucs else "-")
        rows.append([method, *cells])
    return markdown(["method", *(f"{b:,}" for b in budgets)], rows)


def to_draw(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means of the seeds by parameters, which take a byte each in int8."""
    aucs: dict[tuple[str, int], list[float]] = {}
    for each in results:
        if "report" in each and each["method"] in (*_DRAWN, "full"):
            key = each["method"], each["budget"]
            aucs.setdefault(key, []).append(each["report"])
    entries = [
        {
            "method": method,
            "exported_bytes": {"int8": {"table": budget}},
            "test": {"auc": statistics.mean(found)},
        }
        for (method, budget), found in aucs.items()
    ]
    (full,) = [each for each in entries if each["method"] == "full"]
    ours = [each for each in entries if each["method"] == OURS]
    return {
        "dataset": "MovieLens-1M, the last two ratings of each user",
        "dense": full,
        "budgets": ours,
        "baselines": [e for e in entries if e not in (full, *ours)],
    }


if __name__ == "__main__":
    main()
