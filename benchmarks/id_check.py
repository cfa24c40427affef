"""Time that it takes to check ids, in a training step of FM in `model.fit`.

Example:
    python -m benchmarks.id_check

The shape is that of `keras-pep benchmark steps`: 39 fields, 1.2 M features,
d = 24, batches of 1,024, LazyAdam. The step of one model is compiled with and
without the check, and both take turns, a block of steps each, so that they
share whatever else the machine is doing, and where tables are in memory; which
is first changes with every turn. Where other programs are running, processor
time says more than the clock.
"""

import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import click
import keras
import numpy as np

from keras_pep.lab.benchmark.steps import PEP, SMALL, fm, zipf_batches
from keras_pep.layers.ids import checked
from keras_pep.models import base

_CLOCKS: dict[str, Callable[[], float]] = {
    "time": time.perf_counter,
    "processor time": time.process_time,
}


@click.command()
@click.option("--rows", default=SMALL, show_default=True, help="Features.")
@click.option("--blocks", default=41, show_default=True, help="Per variant.")
@click.option("--steps", default=50, show_default=True, help="Per block.")
def main(rows: int, blocks: int, steps: int) -> None:
    """Print median milliseconds per step, and the ratio."""
    train = zipf_batches(rows, steps)
    model = fm(PEP, rows)
    functions = [_traced(model, train, check) for check in (True, False)]
    # Milliseconds by variant, block and clock.
    times = np.empty((len(functions), blocks, len(_CLOCKS)))
    for block in range(blocks):
        turns = list(enumerate(functions))
        for number, function in turns if block % 2 else turns[::-1]:
            model.train_function = function
            began = [clock() for clock in _CLOCKS.values()]
            model.fit(train, epochs=1, verbose=0, shuffle=False)
            ended = [clock() for clock in _CLOCKS.values()]
            times[number, block] = np.subtract(ended, began) / steps * 1e3
    click.echo("| per training step | with, ms | without, ms | ratio | pairs |")
    click.echo("|---|---:|---:|---:|---:|")
    for clock, values in zip(_CLOCKS, np.moveaxis(times, 2, 0), strict=True):
        with_it, without = np.median(values, axis=1)
        low, middle, high = np.quantile(
            values[0] / values[1], (0.25, 0.5, 0.75)
        )
        click.echo(
            f"| {clock}, median | {with_it:.3f} | {without:.3f} | "
            f"{with_it / without:.4f} | "
            f"{middle:.4f} ({low:.4f} - {high:.4f}) |"
        )
        with_it, without = values.min(axis=1)
        click.echo(
            f"| {clock}, fastest | {with_it:.3f} | {without:.3f} | "
            f"{with_it / without:.4f} | |"
        )
    click.echo(
        "\nPairs: median and quartiles of the ratios of neighbouring blocks."
    )


def _traced(model: keras.Model, train: Any, check: bool) -> Any:
    """Steps of a model as a graph, with the check in it or without."""

    def unchecked(ids: Any, _: Any) -> tuple[Any, None]:
        return ids, None

    model.make_train_function(force=True)
    with mock.patch.object(base, "checked", checked if check else unchecked):
        model.fit(train, epochs=1, verbose=0, shuffle=False)
    return model.train_function


if __name__ == "__main__":
    main()
