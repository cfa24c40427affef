"""Training steps on this device, and the memory bandwidth they reach.

Example:
    KERAS_BACKEND=jax python -m benchmarks.device
    KERAS_BACKEND=torch python -m benchmarks.device --rows 100_000

FM over 39 fields with Zipf ids, batches of 1,024, in `model.fit`, on the device
that the backend of Keras takes by itself: a GPU if it finds one. The variants
take turns, a block of steps each, so that they share whatever else the machine
is doing.

What a step must read and write at least, in float32: where gradients are dense,
each is written and read, and every parameter with its two moments is read and
written, 32 bytes for each of them; where they are sparse, as LazyAdam has them
on TensorFlow, so is what the batch looks up, and once more to look it up. That
per second, over what a sum of a number to each of 64 Mi others reads and writes
per second, is the share of bandwidth.
"""

import functools
import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import keras
import numpy as np
from keras import ops

from benchmarks.tricks import by_turns
from keras_pep.lab.benchmark import steps as variants
from keras_pep.lab.benchmark.turns import Measured
from keras_pep.lab.text import markdown

_ENTRIES = 2**26  # 256 MiB of float32: no cache holds them
_DENSE, _SPARSE = 32, 36  # bytes, see above

_VARIANTS = (
    variants.KERAS,
    variants.PEP_KERAS,
    variants.PEP_ONE_KERAS,
    variants.PEP,
    variants.PEP_ONE,
)
_WITH_THRESHOLDS = (variants.PEP_KERAS, variants.PEP)


@click.command()
@click.option("--rows", default=1_000_000, show_default=True)
@click.option("--dim", default=64, show_default=True)
@click.option("--dtype", default="float32", show_default=True)
@click.option("--blocks", default=7, show_default=True, help="Per variant.")
@click.option("--steps", default=50, show_default=True, help="Per block.")
def main(rows: int, dim: int, dtype: str, blocks: int, steps: int) -> None:
    """Print median milliseconds per step, and the share of bandwidth."""
    backend = keras.backend.backend()
    version = importlib.import_module(backend).__version__
    bandwidth = _bandwidth()
    click.echo(
        f"{_device()}; Keras {keras.__version__}, {backend} {version}; "
        f"{bandwidth / 1e9:,.0f} GB/s"
    )
    rows -= rows % variants.FIELDS
    train = variants.zipf_batches(rows, steps)
    models = {
        name: variants.fm(name, rows, dim, steps_per_execution=1, dtype=dtype)
        for name in _VARIANTS
    }
    fits = [
        functools.partial(model.fit, train, verbose=0, shuffle=False)
        for model in models.values()
    ]
    for fit in fits:
        fit()  # compiles
    times = by_turns(fits, blocks)[..., 0] / steps
    looked_up = variants.distinct_ids(rows)
    click.echo(f"\n{rows:,} x {dim}, {looked_up:,} rows looked up a step\n")
    lines = []
    for name, own in zip(_VARIANTS, times, strict=True):
        each = Measured(own.tolist())
        seconds = each.median / 1e3
        width = 1 + dim * (1 + (name in _WITH_THRESHOLDS))
        sparse = backend == "tensorflow" and name.endswith("LazyAdam")
        size = (looked_up * _SPARSE if sparse else rows * _DENSE) * width
        lines.append(
            [
                *(name, f"{each.median:.2f}", each.spread(2)),
                f"{each.median / np.median(times[0]):.2f}",
                f"{size / seconds / 1e9:,.1f}",
                f"{size / seconds / bandwidth:.0%}",
            ]
        )
    titles = ["variant", "ms per step", "fastest - slowest"]
    click.echo(markdown([*titles, "ratio", "GB/s", "share"], lines))


def _bandwidth(times: int = 10) -> float:
    """Bytes per second that adding a number to many, in place, moves."""
    fastest = float("inf")
    add = _in_place()
    for _ in range(times):
        began = time.perf_counter()
        add()
        fastest = min(fastest, time.perf_counter() - began)
    return 2 * 4 * _ENTRIES / fastest


def _in_place() -> Callable[[], None]:
    """Adds a number to each of `_ENTRIES`, and waits for that."""
    backend = keras.backend.backend()
    values = ops.ones((_ENTRIES,), "float32")
    if backend == "tensorflow":
        import tensorflow as tf

        variable = tf.Variable(values)

        @tf.function(jit_compile=True)
        def add(_: Any) -> Any:
            return variable.assign(variable + 1)[:1]

    elif backend == "jax":
        import jax

        add = jax.jit(lambda values: values + 1, donate_argnums=0)
    else:

        def add(values: Any) -> Any:
            return values.add_(1)

    def once() -> None:
        nonlocal values
        values = add(values)
        ops.convert_to_numpy(values[:1])  # waits

    return once


def _device() -> str:
    """The name of the device that the backend takes."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        device = jax.devices()[0]
        name = device.device_kind if device.platform != "cpu" else None
    elif backend == "torch":
        import torch

        there = torch.cuda.is_available()
        name = torch.cuda.get_device_name() if there else None
    else:
        import tensorflow as tf

        found = tf.config.list_physical_devices("GPU")
        name = (
            tf.config.experimental.get_device_details(found[0])["device_name"]
            if found
            else None
        )
    return str(name) if name else f"CPU, {_processor()}"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = {x.partition(":")[2].strip() for x in lines if "model name" in x}
    threads = sum("model name" in line for line in lines)
    return f"{', '.join(names)}, {threads} threads"


if __name__ == "__main__":
    main()
