"""`keras-pep predict`."""

from functools import partial
from pathlib import Path

import click

from keras_pep.lab.cli.common import FILE, FOLDER, command
from keras_pep.lab.cli.dataset import DELIMITER
from keras_pep.lab.cli.model import model_options, refuse_choice


@partial(command, progress=True)
@click.argument("path", type=FOLDER)
@click.option(
    "--input",
    "source",
    required=True,
    type=click.Path(path_type=Path, exists=True),
    help="Rows of raw values: a .csv, .tsv or .parquet file, or a folder of "
    "such files, with a column for each field.",
)
@click.option(
    "--output",
    "target",
    required=True,
    type=FILE,
    help="File to write, .csv, .tsv or .parquet: a column `probability`, in "
    "the order of the rows.",
)
@click.option(
    "--delimiter",
    type=DELIMITER,
    help="Character between columns of the input.  [default: as in training; "
    "else comma, tab for .tsv and .txt]",
)
@model_options
@click.option("--force", is_flag=True, help="Overwrite the output file.")
def predict(
    path: Path,
    source: Path,
    target: Path,
    delimiter: str | None,
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
    from keras_pep.data.load import usual_form
    from keras_pep.lab.run import RunDirectory, scorer_of_run
    from keras_pep.lab.scoring import (
        score_file,
        scorer_of_saved_model,
        vocabularies_of,
    )
    from keras_pep.serving import describe, find_saved_model

    if target.exists() and not force:
        raise click.BadParameter(
            f"{target} exists: choose another file, or overwrite it with "
            "--force.",
            param_hint="--output",
        )
    if target.exists() and target.samefile(source):
        raise click.BadParameter(
            f"{target} is the input file: choose another.",
            param_hint="--output",
        )
    usual = None
    saved_model = find_saved_model(path)
    if saved_model is None:
        run = RunDirectory(path)
        score, columns = scorer_of_run(run, budget, dense=dense)
        vocabularies = [*run.read_vocabularies().values()]
        config = run.read_json("config.json")
        usual = usual_form(str(config.get("dataset")), config.get("delimiter"))
    else:
        refuse_choice(path, budget, dense)
        description = describe(saved_model)
        score, columns = scorer_of_saved_model(description)
        vocabularies = vocabularies_of(description)
    rows = score_file(
        *(score, columns, source, target, delimiter, usual),
        vocabularies=vocabularies,
    )
    if not quiet:
        click.echo(f"{rows:,} rows: {target}")
