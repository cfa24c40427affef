"""`keras-pep prepare`."""

from functools import partial
from typing import Any

import click

from keras_pep.lab.cli.common import command, options
from keras_pep.lab.cli.dataset import SEED, data_options, data_settings


@partial(command, progress=True)
@data_options
@options({"seed": SEED})
def prepare(*, quiet: bool, seed: int, **options: Any) -> None:
    """Read raw files once for training, and print what they hold.

    `train` with the same options finds the prepared data.

    \b
    Examples:
      keras-pep prepare --dataset criteo --data-dir criteo
      keras-pep prepare --dataset clicks.csv --label clicked
    """
    from keras_pep import data

    del quiet  # it is for what is logged
    settings = data_settings(options)
    dataset = data.load(
        settings.pop("dataset"),
        **settings,
        seed=seed,
        in_memory=0,
    )
    click.echo(f"{dataset}\n\n{dataset.table()}")
    if dataset.malformed:
        click.echo(f"left out: {dataset.malformed:,} malformed rows")
    for note in dataset.notes:
        click.echo(note)
