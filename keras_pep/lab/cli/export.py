"""`keras-pep export`."""

from pathlib import Path

import click

from keras_pep.lab.cli.common import FOLDER, FiniteFloat, Text, command


@command
@click.argument("run", type=FOLDER)
@click.option(
    "--budget",
    type=click.IntRange(min=1),
    help="Export the model of this budget.  [default: the model that the run "
    "has chosen, or else the one of the best validation AUC]",
)
@click.option("--dense", is_flag=True, help="Export the dense model.")
@click.option(
    "--quantize",
    type=click.Choice(["int8", "float16", "none"]),
    default="int8",
    help="Type of the tables' values. none: float32, as they were trained.",
)
@click.option(
    "--keep-vocabulary/--drop-vocabulary",
    default=None,
    help="Keep values in the vocabulary whose embeddings were pruned whole, or "
    "drop them, so that they count as unknown.  [default: drop those that "
    "change no score]",
)
@click.option(
    "--unless-worse",
    type=FiniteFloat(min=0),
    metavar="AUC",
    help="Refuse a continued model whose test AUC is lower by more than this "
    "than that of the model before.",
)
@click.option(
    "--output",
    type=Text("DIRECTORY|URI"),
    help="Directory of the model's versions, which may be in an object store, "
    "s3://bucket/clicks.  [default: saved_models/<run "
    "name>, or beside the version of the run before]",
)
@click.option(
    "--version",
    type=click.IntRange(min=1),
    help="Number of the new version, which must not exist.  [default: the "
    "next one]",
)
def export(
    run: Path,
    budget: int | None,
    dense: bool,
    quantize: str,
    keep_vocabulary: bool | None,
    unless_worse: float | None,
    output: str | None,
    version: int | None,
    quiet: bool,
) -> None:
    """Write a model of RUN as a SavedModel for TensorFlow Serving.

    \b
    Examples:
      keras-pep export runs/movielens-fm-20260101-120000
      keras-pep export runs/clicks --budget 50000 --quantize none
      keras-pep export runs/clicks-today --unless-worse 0.001
    """
    from keras_pep.lab.run import RunDirectory, export_run
    from keras_pep.serving import size_table

    if dense and budget is not None:
        raise click.BadParameter(
            "the dense model has no budget: leave --budget out.",
            param_hint="--dense",
        )
    result = export_run(
        RunDirectory(run),
        *(budget, output, version, None if quantize == "none" else quantize),
        dense=dense,
        keep_vocabulary=keep_vocabulary,
        unless_worse=unless_worse,
    )
    if not quiet:
        click.echo(size_table(result.report))
        if not result.report["warm_up"]:
            click.echo(
                "no warm-up file was written: it needs "
                "pip install 'keras-pep[serving]'"
            )
    click.echo(f"SavedModel: {result.path}")
