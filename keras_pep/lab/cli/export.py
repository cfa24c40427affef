"""`keras-pep export`."""

from pathlib import Path

import click

from keras_pep.lab.cli.common import FiniteFloat, command


@command
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--budget",
    type=click.IntRange(min=1),
    help="Which model.  [default: the one that the run has chosen, or that of "
    "the best validation AUC]",
)
@click.option("--dense", is_flag=True, help="The dense model instead.")
@click.option(
    "--quantize",
    type=click.Choice(["int8", "float16", "none"]),
    default="int8",
    show_default=True,
    help="Type of the tables' values; none: float32, as they were trained.",
)
@click.option(
    "--keep-vocabulary/--drop-vocabulary",
    default=None,
    help="Whether features stay known of which nothing was kept; if not, they "
    "count as unknown values do.  [default: they leave where that changes no "
    "score]",
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
    type=click.Path(path_type=Path, file_okay=False),
    help="The model's directory, which holds its versions.  [default: "
    "saved_models/<run name>, or beside the version that the run goes on from]",
)
@click.option(
    "--version",
    type=click.IntRange(min=1),
    help="Refused if it exists.  [default: the one after the last]",
)
def export(
    run: Path,
    budget: int | None,
    dense: bool,
    quantize: str,
    keep_vocabulary: bool | None,
    unless_worse: float | None,
    output: Path | None,
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
            "the dense model has no --budget.", param_hint="--dense"
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
                "no warm-up file: pip install 'keras-pep[serving]' for one"
            )
    click.echo(f"SavedModel: {result.path}")
