"""Bytes on each device of a table whose rows they share.

Example:
    python -m benchmarks.sharded
    python -m benchmarks.sharded --rows 10_000_000 --dim 32 --devices 8

FM over 39 fields with Zipf ids, batches of 1,024, a threshold for every entry,
LazyAdam; search to 97 % sparsity, ticket, retraining. On a machine without
accelerators the devices are parts of the CPU, as JAX makes them for tests, so
that their memory can be told but not their speed.
"""

import os
import tempfile
from pathlib import Path

import click


@click.command()
@click.option("--rows", default=1_000_000, show_default=True)
@click.option("--dim", default=32, show_default=True)
@click.option("--devices", default=8, show_default=True, help="If of a CPU.")
@click.option("--steps", default=20, show_default=True, help="Of the search.")
def main(rows: int, dim: int, devices: int, steps: int) -> None:
    """Print bytes per device, by formula and as measured."""
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ["XLA_FLAGS"] = (
        f"--xla_force_host_platform_device_count={devices} "
        + os.environ.get("XLA_FLAGS", "")
    )
    import jax
    import keras

    import keras_pep
    from keras_pep.data import Split, batches
    from keras_pep.lab.benchmark.steps import (
        BATCH,
        FIELDS,
        random_labels,
        zipf_ids,
    )

    devices = len(jax.devices())
    rows -= rows % (FIELDS * devices)
    keras.distribution.set_distribution(keras_pep.distribution.RowParallel())
    split = Split(zipf_ids(rows, steps * BATCH), random_labels(steps * BATCH))
    train = batches(split, BATCH, seed=0)
    model = keras_pep.models.FM((rows // FIELDS,) * FIELDS, dim)
    model.compile(
        keras_pep.optimizers.LazyAdam(1e-3),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    model.build()
    model.optimizer.build(model.trainable_variables)

    def held() -> str:
        # By place, since a part of an array is an array too.
        parts = {
            (shard.device, shard.data.unsafe_buffer_pointer()): shard.data
            for array in jax.live_arrays()  # type: ignore[no-untyped-call]
            for shard in array.addressable_shards
        }
        found = dict.fromkeys(jax.devices(), 0)
        for (device, _), part in parts.items():
            found[device] += part.nbytes
        least, most = min(found.values()), max(found.values())
        return f"{least / 2**20:,.1f} - {most / 2**20:,.1f} MiB"

    # Table, thresholds, first-order weights, and two moments of each.
    state = 3 * 4 * rows * (2 * dim + 1)
    click.echo(
        f"{rows:,} x {dim} on {devices} x {jax.devices()[0].device_kind}"
    )
    click.echo(f"whole table: {4 * rows * dim / 2**20:,.1f} MiB")
    click.echo(f"state, by formula: {state / 2**20:,.1f} MiB")
    click.echo(f"a device's share: {state / devices / 2**20:,.1f} MiB")
    click.echo(f"held by a device, once built: {held()}")
    budget = round(0.03 * rows * dim)
    (ticket,) = keras_pep.search(model, train, budgets=[budget], epochs=1)
    click.echo(f"after the search: {held()}")
    with tempfile.TemporaryDirectory() as folder:
        ticket.save(Path(folder, "ticket.npz"))
        small = keras_pep.retrain(model, ticket, train, epochs=1)
        click.echo(f"after retraining, of both models: {held()}")
        small.save(Path(folder, "small.keras"))
        size = Path(folder, "small.keras").stat().st_size
    click.echo(
        f"ticket of {ticket.embedding_parameters:,} entries, budget "
        f"{budget:,}; small.keras, with its optimizer: {size / 2**20:,.1f} MiB"
    )


if __name__ == "__main__":
    main()
