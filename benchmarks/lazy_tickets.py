"""How far the tickets of `LazyAdam` are those of `AdamL2`.

Example:
    python -m benchmarks.lazy_tickets --rows 1000000

One search by budget for each optimizer, from the same initial values, on the
same batches: `AdamL2`; `LazyAdam` as it is; and `LazyAdam` without its
`catch_up`, which leaves rows as their last look-up has made them. As the noise
floor, `AdamL2` on the same rows in another order, and from another seed.

Prints the overlap of their tickets with that of `AdamL2`, as a share of the
budget: of entries, and of features, each counting as often as it has entries
in both.

Rows are drawn: five fields of features as popular as Zipf's law has it, labels
from planted vectors.
"""

from collections.abc import Sequence
from typing import Any

import click
import keras
import numpy as np

import keras_pep
from keras_pep.data import Split, batches
from keras_pep.lab.text import markdown
from keras_pep.layers import variables
from keras_pep.optimizers import AdamL2, LazyAdam

BATCH = 1024
FIELDS = (60_000, 30_000, 2_000, 400, 40)
PLANTED = 8  # dimensions


class Stale(LazyAdam):
    """`LazyAdam` that never catches up."""

    def catch_up(self) -> None:
        """Leaves rows alone."""

    def take(self, variable: Any, rows: Any) -> Any:
        """Reads rows as they are."""
        return variables.take(variable, rows)


@click.command()
@click.option("--rows", default=1_000_000, show_default=True)
@click.option("--dim", default=16, show_default=True)
@click.option("--epochs", default=1, show_default=True)
@click.option("--l2", default=1e-5, show_default=True)
@click.option("--rate", default=1e-3, show_default=True)
@click.option(
    "--share", "shares", multiple=True, default=(0.2, 0.05), show_default=True
)
def main(
    rows: int,
    dim: int,
    epochs: int,
    l2: float,
    rate: float,
    shares: Sequence[float],
) -> None:
    """Search with each optimizer; print how far tickets are the same."""
    split = _drawn(rows)
    budgets = [round(share * sum(FIELDS) * dim) for share in shares]
    click.echo(
        f"{rows:,} rows, {sum(FIELDS):,} features x {dim}, {epochs} epochs, "
        f"rate {rate}, L2 {l2}, budgets {budgets}\n"
    )
    variants = {
        "AdamL2": (AdamL2, 0, 0),
        "LazyAdam": (LazyAdam, 0, 0),
        "LazyAdam, stale": (Stale, 0, 0),
        "AdamL2, other order": (AdamL2, 0, 1),
        "AdamL2, other seed": (AdamL2, 1, 1),
    }
    masks = {}
    for name, (kind, seed, order) in variants.items():
        keras.utils.set_random_seed(seed)
        model = keras_pep.models.FM(
            FIELDS,
            dim,
            keras_pep.PEPEmbedding(
                sum(FIELDS),
                dim,
                embeddings_initializer="glorot_uniform",
                name="embedding",
            ),
        )
        model.build()
        model.compile(
            kind(rate, l2=l2), keras.losses.BinaryCrossentropy(from_logits=True)
        )
        tickets = keras_pep.search(
            model,
            batches(split, BATCH, seed=order),
            budgets=budgets,
            epochs=epochs,
        )
        masks[name] = [each.tables["embedding"].mask() for each in tickets]
    click.echo(_overlaps(masks, budgets))


def _overlaps(
    masks: dict[str, list[np.ndarray]], budgets: Sequence[int]
) -> str:
    expected = masks.pop("AdamL2")
    lines = []
    for name, own in masks.items():
        for budget, one, other in zip(budgets, expected, own, strict=True):
            both = np.minimum(one.sum(axis=1), other.sum(axis=1)).sum()
            entries = f"{(one & other).sum() / budget:.3f}"
            features = f"{both / budget:.3f}"
            lines.append([name, f"{budget:,}", entries, features])
    titles = ["overlap with AdamL2", "of", "entries", "features"]
    return markdown(titles, lines)


def _drawn(rows: int) -> Split:
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
    return Split(ids, labels.astype(np.float32))


if __name__ == "__main__":
    main()
