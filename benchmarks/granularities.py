"""Time of a training step of FM in `model.fit`, by embedding layer.

Example:
    python -m benchmarks.granularities

The shape is MovieLens-1M with the paper's features: 4,129 features in seven
fields, base dimension 64, batches of 1,024, Adam with L2 on every weight. The
variants take turns, a block of steps each, so that they share whatever else
the machine is doing.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import click
import keras
import numpy as np

import keras_pep
from keras_pep.data import batches
from keras_pep.lab.benchmark.loop import FIELD_SIZES, random_split
from keras_pep.thresholds import GRANULARITIES

DIM = 64
BATCH = 1024


@click.command()
@click.option("--blocks", default=7, show_default=True, help="Per variant.")
@click.option("--steps", default=200, show_default=True, help="Per block.")
def main(blocks: int, steps: int) -> None:
    """Print median milliseconds per step, and the spread over blocks."""
    split = random_split(np.random.default_rng(0), steps * BATCH)
    train = batches(split, BATCH, seed=0)
    models = {name: _model(layer) for name, layer in _layers().items()}
    times: dict[str, list[float]] = {name: [] for name in models}
    for block in range(blocks + 1):
        for name, model in models.items():
            began = time.perf_counter()
            model.fit(train, epochs=1, verbose=0, shuffle=False)
            if block:  # the first one traces the graph
                times[name].append((time.perf_counter() - began) / steps * 1e3)
    plain = statistics.median(times["dense"])
    click.echo("| embedding | ms per step | min - max | ratio to dense |")
    click.echo("|---|---:|---:|---:|")
    for name, values in times.items():
        median = statistics.median(values)
        click.echo(
            f"| {name} | {median:.2f} | {min(values):.2f} - "
            f"{max(values):.2f} | {median / plain:.2f} |"
        )


def _layers() -> dict[str, Callable[[], Any]]:
    features = sum(FIELD_SIZES)

    def pruned() -> Any:
        random = np.random.default_rng(0)
        table = random.normal(size=(features, DIM)).astype(np.float32)
        mask = random.random(table.shape) < 0.1
        return keras_pep.PrunedEmbedding.from_dense(table, mask)

    def pep(granularity: str) -> Callable[[], Any]:
        return lambda: keras_pep.PEPEmbedding(
            features,
            DIM,
            granularity=granularity,
            field_sizes=FIELD_SIZES,
        )

    return {
        "dense": lambda: "dense",
        **{f"PEP, {name}": pep(name) for name in GRANULARITIES},
        "pruned, 90 %": pruned,
    }


def _model(layer: Callable[[], Any]) -> keras.Model:
    model = keras_pep.models.FM(FIELD_SIZES, DIM, layer())
    model.compile(
        keras_pep.optimizers.AdamL2(1e-3),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return model


if __name__ == "__main__":
    main()
