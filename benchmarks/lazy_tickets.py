"""How far the tickets of `LazyAdam` are those of `AdamL2`.

Example:
    python -m benchmarks.lazy_tickets --data clicks.parquet

One search by budget for each optimizer, from the same initial values, on the
same batches: `AdamL2`; `LazyAdam` as it is; and `LazyAdam` without its
`catch_up`, which leaves rows as their last look-up has made them. As the noise
floor, `AdamL2` on the same rows in another order, and from another seed.

Prints the overlap of their tickets with that of `AdamL2`, as a share of the
budget: of entries, and of features, each counting as often as it has entries
in both. Then where the kept entries are, by how often training has a feature:
their share, how many a feature has on average, and how many features keep 5/8
of theirs or more. Then how large entries are before anything is pruned, by
root mean square.

Without `--data` rows are drawn: five fields of features as popular as Zipf's
law has it, labels from planted vectors. A Parquet file needs integer columns,
and `label`.
"""

import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import keras
import numpy as np
import pandas as pd

import keras_pep
from keras_pep.data import Split, batches
from keras_pep.layers import variables
from keras_pep.optimizers import AdamL2, LazyAdam

BATCH = 1024
FIELDS = (60_000, 30_000, 2_000, 400, 40)  # of the rows that are drawn
PLANTED = 8  # dimensions


class Stale(LazyAdam):
    """`LazyAdam` that never catches up."""

    def catch_up(self) -> None:
        """Leaves rows alone."""

    def take(self, variable: Any, rows: Any) -> Any:
        """Reads rows as they are."""
        return variables.take(variable, rows)


@click.command()
@click.option("--data", type=click.Path(exists=True), help="A Parquet file.")
@click.option("--rows", default=1_000_000, show_default=True, help="To draw.")
@click.option("--dim", default=16, show_default=True)
@click.option("--epochs", default=1, show_default=True)
@click.option("--l2", default=1e-5, show_default=True)
@click.option("--rate", default=1e-3, show_default=True)
@click.option(
    "--share", "shares", multiple=True, default=(0.2, 0.05), show_default=True
)
@click.option("--seen", default="10,50,200,1000", show_default=True)
@click.option(
    "--only", multiple=True, help="Optimizers to compare, besides AdamL2."
)
def main(
    data: str | None,
    rows: int,
    dim: int,
    epochs: int,
    l2: float,
    rate: float,
    shares: Sequence[float],
    seen: str,
    only: Sequence[str],
) -> None:
    """Search with each optimizer; print overlaps, and where entries are."""
    split, sizes = _drawn(rows) if data is None else _read(Path(data))
    counts = np.bincount(
        (split.ids + np.cumsum([0, *sizes[:-1]])).ravel(),
        minlength=sum(sizes),
    )
    budgets = [round(share * sum(sizes) * dim) for share in shares]
    click.echo(
        f"{len(split.ids):,} rows, {sum(sizes):,} features x {dim}, "
        f"{epochs} epochs, rate {rate}, L2 {l2}, budgets {budgets}"
    )
    variants = {
        "AdamL2": (AdamL2, 0, 0),
        "LazyAdam": (LazyAdam, 0, 0),
        "LazyAdam, stale": (Stale, 0, 0),
        "AdamL2, other order": (AdamL2, 0, 1),
        "AdamL2, other seed": (AdamL2, 1, 1),
    }
    found: dict[str, Any] = {}
    for name, (kind, seed, order) in variants.items():
        if only and name not in ("AdamL2", *only):
            continue
        keras.utils.set_random_seed(seed)
        model = keras_pep.models.FM(
            sizes,
            dim,
            keras_pep.PEPEmbedding(
                sum(sizes),
                dim,
                granularity="global",
                embeddings_initializer="glorot_uniform",
                name="embedding",
            ),
        )
        model.build()
        model.compile(
            kind(rate, l2=l2), keras.losses.BinaryCrossentropy(from_logits=True)
        )
        entries = _Entries()
        began = time.perf_counter()
        tickets = keras_pep.search(
            model,
            batches(split, BATCH, seed=order),
            budgets=budgets,
            epochs=epochs,
            callbacks=[entries],
        )
        seconds = time.perf_counter() - began
        click.echo(f"{name}: {seconds:.0f} s", err=True)
        masks = [ticket.tables["embedding"].mask() for ticket in tickets]
        found[name] = masks, entries.squares
    _overlaps(found, budgets)
    limits = [int(x) for x in seen.split(",")]
    for place, budget in enumerate(budgets):
        of_budget = {name: masks[place] for name, (masks, _) in found.items()}
        _where(of_budget, counts, limits, budget)
    squares = {name: squares for name, (_, squares) in found.items()}
    _sizes(squares, counts, limits)


class _Entries(keras.callbacks.Callback):
    """Mean square of the entries of each row, before anything is pruned."""

    squares: np.ndarray | None = None

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Reads the table, after a fifth of the search."""
        if self.squares is None and batch > 0.19 * self.params["steps"] * max(
            1, self.params["epochs"]
        ):
            table = self.model.get_layer("embedding").embeddings
            take = keras_pep.optimizers.taken_by(self.model.optimizer)
            values = take(table, np.arange(table.shape[0]))
            self.squares = (np.asarray(values) ** 2).mean(axis=1)


def _overlaps(found: dict[str, Any], budgets: Sequence[int]) -> None:
    click.echo("\n| overlap with AdamL2 | of | entries | features |")
    click.echo("|---|---:|---:|---:|")
    expected = found["AdamL2"][0]
    for name, (masks, _) in found.items():
        if name == "AdamL2":
            continue
        for budget, one, other in zip(budgets, expected, masks, strict=True):
            both = np.minimum(one.sum(axis=1), other.sum(axis=1)).sum()
            click.echo(
                f"| {name} | {budget:,} | {(one & other).sum() / budget:.3f} "
                f"| {both / budget:.3f} |"
            )


def _bins(counts: np.ndarray, limits: Sequence[int]) -> dict[str, np.ndarray]:
    edges = [0, 1, *limits, counts.max() + 1]
    return {
        f"{low} - {high - 1}" if low else "never": (counts >= low)
        & (counts < high)
        for low, high in itertools.pairwise(edges)
    }


def _where(
    masks: dict[str, np.ndarray],
    counts: np.ndarray,
    limits: Sequence[int],
    budget: int,
) -> None:
    click.echo(f"\nOf {budget:,} entries: share, per feature, 5/8 or more")
    click.echo(f"\n| seen | features | rows | {' | '.join(masks)} |")
    click.echo(f"|---|---:|---:|{'---:|' * len(masks)}")
    for name, those in _bins(counts, limits).items():
        shares = (
            f"{mask[those].sum() / mask.sum():.1%}, "
            f"{mask[those].sum(axis=1).mean() if those.any() else 0:.2f}, "
            f"{(mask[those].mean(axis=1) >= 5 / 8).sum():,}"
            for mask in masks.values()
        )
        click.echo(
            f"| {name} | {those.mean():.1%} "
            f"| {counts[those].sum() / counts.sum():.1%} "
            f"| {' | '.join(shares)} |"
        )


def _sizes(
    squares: dict[str, np.ndarray], counts: np.ndarray, limits: Sequence[int]
) -> None:
    click.echo("\nRoot mean square of entries before anything is pruned")
    click.echo(f"\n| seen | {' | '.join(squares)} |")
    click.echo(f"|---|{'---:|' * len(squares)}")
    for name, those in _bins(counts, limits).items():
        if those.any():
            cells = (f"{x[those].mean() ** 0.5:.4f}" for x in squares.values())
            click.echo(f"| {name} | {' | '.join(cells)} |")


def _read(path: Path) -> tuple[Split, list[int]]:
    """Ids as they come, 0 to the largest of each column."""
    frame = pd.read_parquet(path)
    labels = frame.pop("label").to_numpy(np.float32)
    ids = frame.to_numpy(np.int32)
    return Split(ids, labels), [int(x) + 1 for x in ids.max(axis=0)]


def _drawn(rows: int) -> tuple[Split, list[int]]:
    random = np.random.default_rng(0)
    columns = []
    total = squares = np.zeros((rows, PLANTED), np.float32)
    for count in FIELDS:
        popularity = 1 / np.arange(1, count + 1)
        ids = random.choice(count, rows, p=popularity / popularity.sum())
        planted = random.normal(size=(count, PLANTED)).astype(np.float32)
        columns.append(ids)
        total, squares = total + planted[ids], squares + planted[ids] ** 2
    pairs = (np.square(total) - squares).sum(axis=1) / 2
    logits = 2 * pairs / pairs.std()
    labels = random.random(rows) < 1 / (1 + np.exp(-logits))
    ids = np.stack(columns, axis=1).astype(np.int32)
    return Split(ids, labels.astype(np.float32)), list(FIELDS)


if __name__ == "__main__":
    main()
