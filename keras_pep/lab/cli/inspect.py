"""`keras-pep inspect`."""

from pathlib import Path

import click

from keras_pep.lab.cli.common import FOLDER, command
from keras_pep.lab.cli.model import model_options, refuse_choice


@command
@click.argument("path", type=FOLDER)
@model_options
def inspect(path: Path, budget: int | None, dense: bool, quiet: bool) -> None:
    """Print what a run's model or a SavedModel keeps, and its bytes.

    PATH is a run directory, a SavedModel, or the directory of its versions.

    \b
    Examples:
      keras-pep inspect runs/movielens-fm-20260101-120000 --budget 50000
      keras-pep inspect saved_models/movielens-fm-20260101-120000
    """
    from keras_pep.lab.run import (
        RunDirectory,
        inspect_run,
        results_table,
    )
    from keras_pep.lab.text import aligned
    from keras_pep.serving import (
        describe,
        field_rows,
        find_saved_model,
        signature_lines,
        size_table,
    )

    lines: list[str] = []
    saved_model = find_saved_model(path)
    if saved_model is not None:
        refuse_choice(path, budget, dense)
        description = describe(saved_model)
        click.echo(f"SavedModel: {saved_model}")
        report = description.report
        if not quiet:
            lines = signature_lines(description.signatures)
    else:
        directory = RunDirectory(path)
        metrics, name, report = inspect_run(directory, budget, dense=dense)
        if not quiet:
            click.echo(f"{results_table(metrics)}\n")
        click.echo(f"{name} of {path}")
    if report:
        click.echo(f"{size_table(report)}\n")
    if report.get("fields"):
        click.echo(f"{aligned(field_rows(report['fields']))}\n")
    click.echo("\n".join(lines), nl=bool(lines))
