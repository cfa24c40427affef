"""Time that it takes to check ids, in a training step of FM in `model.fit`.

Example:
    python -m benchmarks.id_check

The shape is that of `keras-pep benchmark steps`: 39 fields, 1.2 M features,
d = 24, batches of 1,024, LazyAdam. The step of one model is compiled with and
without the check, several times each: two graphs of the same step differ by
some percent, more than the check takes. They take turns, a block of steps each,
in an order that changes. Where other programs are running, processor time says
more than the clock.

The check is timed by itself, too, as a graph of nothing else on one batch after
the other.
"""

import functools
from typing import Any
from unittest import mock

import click
import keras
import numpy as np

from benchmarks.tricks import CLOCKS, by_turns
from keras_pep.lab.benchmark.steps import (
    BATCH,
    FIELDS,
    PEP,
    SMALL,
    fm,
    zipf_batches,
    zipf_ids,
)
from keras_pep.layers.ids import Bounds, checked
from keras_pep.models import base


@click.command()
@click.option("--rows", default=SMALL, show_default=True, help="Features.")
@click.option("--graphs", default=4, show_default=True, help="Per variant.")
@click.option("--blocks", default=21, show_default=True, help="Per graph.")
@click.option("--steps", default=50, show_default=True, help="Per block.")
def main(rows: int, graphs: int, blocks: int, steps: int) -> None:
    """Print median milliseconds per step, and the ratio."""
    train = zipf_batches(rows, steps)
    model = fm(PEP, rows)
    # With the check, without, and so on: neighbours are compared.
    functions = [
        _traced(model, train, check)
        for _ in range(graphs)
        for check in (True, False)
    ]

    def run(function: Any) -> None:
        model.train_function = function
        model.fit(train, epochs=1, verbose=0, shuffle=False)

    programs = [functools.partial(run, function) for function in functions]
    by_graph = by_turns(programs, blocks) / steps
    times = by_graph.reshape(graphs, 2, blocks, len(CLOCKS))
    click.echo("| per step | with, ms | without, ms | ratio | of graphs |")
    click.echo("|---|---:|---:|---:|---:|")
    for number, clock in enumerate(CLOCKS):
        own = times[..., number]
        with_it, without = np.median(own, axis=(0, 2))
        ratios = np.sort(np.divide(*np.median(own, axis=2).T))
        click.echo(
            f"| {clock} | {with_it:.3f} | {without:.3f} | "
            f"{with_it / without:.4f} | {ratios[0]:.4f} - {ratios[-1]:.4f} |"
        )
    _check_alone(rows, blocks)


def _traced(model: keras.Model, train: Any, check: bool) -> Any:
    """Steps of a model as a graph, with the check in it or without."""

    def unchecked(ids: Any, _: Any) -> tuple[Any, None]:
        return ids, None

    model.make_train_function(force=True)
    with mock.patch.object(base, "checked", checked if check else unchecked):
        model.fit(train, epochs=1, verbose=0, shuffle=False)
    return model.train_function


def _check_alone(rows: int, blocks: int, batches: int = 64) -> None:
    """Print microseconds of the check of a batch, in a graph of many."""
    import tensorflow as tf

    bounds = Bounds.of_fields([rows // FIELDS] * FIELDS, [1] * FIELDS)
    ids = tf.constant(zipf_ids(rows, BATCH * batches))

    def graph_of(function: Any) -> Any:
        parts = tf.split(ids, batches)  # different: equal ones become one
        return tf.function(lambda: [function(part) for part in parts])

    graphs = [
        graph_of(lambda part: checked(part, bounds)[0] + 1),
        graph_of(lambda part: part + 1),
    ]
    for graph in graphs:
        graph()
    times = by_turns(graphs, 5 * blocks)
    for number, clock in enumerate(CLOCKS):
        with_it, without = np.median(times[..., number], axis=1)
        taken = (with_it - without) / batches * 1e3
        click.echo(f"The check of a batch alone, {clock}: {taken:.0f} us")


if __name__ == "__main__":
    main()
