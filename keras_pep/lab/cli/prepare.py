"""`keras-pep prepare`."""

import contextlib
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click

from keras_pep.lab.cli.common import FOLDER, command, options, refuse
from keras_pep.lab.cli.dataset import SEED, data_options, data_settings


@partial(command, progress=True)
@data_options
@options({"seed": SEED})
@click.option(
    "--write-vocabularies",
    "folder",
    type=FOLDER,
    help="Folder to write the values of each field to, one a line by falling "
    "count. --vocabularies reads it.",
)
@click.option(
    "--runner",
    type=click.Choice(["local", "beam"]),
    default="local",
    show_default=True,
    help="Reader of the files. beam: a pipeline of Apache Beam, a file at a "
    "time; its own options follow after --, as in -- --runner=FlinkRunner. "
    "Without them it runs in this process.",
)
@click.argument("beam_options", nargs=-1, type=click.UNPROCESSED)
def prepare(
    *,
    quiet: bool,
    seed: int,
    folder: Path | None,
    runner: str,
    beam_options: tuple[str, ...],
    **options: Any,
) -> None:
    """Read raw files once for training, and print what they hold.

    `train` with the same options finds the prepared data.

    \b
    Examples:
      keras-pep prepare --dataset criteo --data-dir criteo
      keras-pep prepare --dataset clicks.csv --label clicked
      keras-pep prepare --dataset days --label clicked --runner beam
    """
    from keras_pep import data

    del quiet  # it is for what is logged
    refuse(
        "--runner",
        bool(beam_options) and runner != "beam",
        f"found the arguments {' '.join(beam_options)}, expected none without "
        "--runner beam.",
    )
    settings = data_settings(options)
    with _lines_of_others():
        dataset = data.load(
            settings.pop("dataset"),
            **settings,
            seed=seed,
            in_memory=0,
            beam=beam_options if runner == "beam" else None,
        )
    parts = (str(dataset), dataset.table(), dataset.parsed())
    click.echo("\n\n".join(filter(None, parts)))
    if dataset.malformed:
        click.echo(f"left out: {dataset.malformed:,} malformed rows")
    for note in dataset.notes:
        click.echo(note)
    if folder is not None:
        from keras_pep.data.vocabularies import write_vocabularies

        write_vocabularies(dataset, folder)
        click.echo(f"vocabularies: {folder}")


@contextlib.contextmanager
def _lines_of_others() -> Iterator[None]:
    """Show warnings of Beam, which else sets up a log with our lines again."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.addFilter(lambda line: not line.name.startswith("keras_pep"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
