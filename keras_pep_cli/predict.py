"""`keras-pep predict`."""

from pathlib import Path

import click

from keras_pep_cli.common import command
from keras_pep_cli.model import model_options, refuse_choice


@command
@click.argument("path", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--input",
    "source",
    required=True,
    type=click.Path(path_type=Path, exists=True),
    help="Rows with raw values: a .csv, .tsv or .parquet file, or a folder of "
    "such files, with a column for each field.",
)
@click.option(
    "--output",
    "target",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write the column `probability`, row by row: .csv, .tsv or "
    ".parquet.",
)
@model_options
@click.option("--force", is_flag=True, help="Overwrite the output.")
def predict(
    path: Path,
    source: Path,
    target: Path,
    budget: int | None,
    dense: bool,
    force: bool,
    quiet: bool,
) -> None:
    """Score rows of raw values with a run's model or a SavedModel.

    PATH is a run directory, a SavedModel, or the directory of its versions.

    \b
    Examples:
      keras-pep predict runs/clicks --input new.csv --output scores.csv
      keras-pep predict saved_models/clicks --input new.csv --output s.parquet
    """
    from keras_pep.run import RunDirectory, scorer_of_run
    from keras_pep.serving import (
        describe,
        find_saved_model,
        score_file,
        scorer_of_saved_model,
    )

    if target.exists() and not force:
        raise click.BadParameter(
            f"{target} exists; --force overwrites it.", param_hint="--output"
        )
    saved_model = find_saved_model(path)
    if saved_model is None:
        score, columns = scorer_of_run(RunDirectory(path), budget, dense=dense)
    else:
        refuse_choice(path, budget, dense)
        score, columns = scorer_of_saved_model(describe(saved_model))
    rows = score_file(score, columns, source, target)
    if not quiet:
        click.echo(f"{rows:,} rows: {target}")
