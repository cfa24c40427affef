"""Time that each trick on TensorFlow saves, in a training step in `model.fit`.

Example:
    python -m benchmarks.tricks

The shape is that of `keras-pep benchmark steps`: FM, 39 fields, 1.2 M features,
d = 24, batches of 1,024, LazyAdam. The model with all tricks of
`keras_pep._tf_kernels` and those that lack one of them take turns, a block of
steps each, in an order that changes, so that they share whatever else the
machine is doing. Where other programs are running, processor time says more
than the clock. A trick that saves less than 5 % of a step is not worth its
code.
"""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import click
import keras
import numpy as np

from keras_pep._tf_kernels import USED
from keras_pep.lab.benchmark.steps import PEP, SMALL, fm, zipf_batches
from keras_pep.lab.text import markdown

CLOCKS: dict[str, Callable[[], float]] = {
    "time": time.perf_counter,
    "processor time": time.process_time,
}


@click.command()
@click.option("--rows", default=SMALL, show_default=True, help="Features.")
@click.option("--blocks", default=15, show_default=True, help="Per variant.")
@click.option("--steps", default=40, show_default=True, help="Per block.")
def main(rows: int, blocks: int, steps: int) -> None:
    """Print milliseconds per step without each trick, and the ratio."""
    keras.utils.set_random_seed(0)
    train = zipf_batches(rows, steps)
    variants: dict[str, dict[str, bool]] = {
        "all of them": {},
        **{f"no {name}": {name: False} for name in USED},
    }
    programs = []
    for changed in variants.values():
        with mock.patch.dict(USED, changed):
            model = fm(PEP, rows)
            fit = functools.partial(model.fit, train, verbose=0, shuffle=False)
            fit()
        programs.append(fit)
    times = np.moveaxis(by_turns(programs, blocks) / steps, 2, 0)
    lines = []
    for clock, values in zip(CLOCKS, times, strict=True):
        for name, one in zip(variants, values, strict=True):
            low, middle, high = np.quantile(one / values[0], (0.25, 0.5, 0.75))
            ratio = np.median(one) / np.median(values[0])
            pairs = f"{middle:.3f} ({low:.3f} - {high:.3f})"
            first = f"{clock}, {name}", f"{np.median(one):.2f}"
            lines.append([*first, f"{ratio:.3f}", pairs])
    titles = ["per training step", "ms", "against all of them", "pairs"]
    click.echo(markdown(titles, lines))


def by_turns(programs: Sequence[Callable[[], Any]], blocks: int) -> np.ndarray:
    """Milliseconds of programs by program, block and clock."""
    random = np.random.default_rng(0)
    times = np.empty((len(programs), blocks, len(CLOCKS)))
    for block in range(blocks):
        for number in random.permutation(len(programs)):
            began = [clock() for clock in CLOCKS.values()]
            programs[number]()
            ended = [clock() for clock in CLOCKS.values()]
            times[number, block] = np.subtract(ended, began) * 1e3
    return times


if __name__ == "__main__":
    main()
