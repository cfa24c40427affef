"""`keras-pep compare`."""

from pathlib import Path

import click

from keras_pep.lab.cli.common import FILE, FOLDER, command
from keras_pep.lab.cli.report import say_unfinished


@command
@click.argument(
    "runs",
    nargs=-1,
    required=True,
    type=FOLDER,
    metavar="RUN RUN...",
)
@click.option(
    "--output",
    type=FILE,
    default=Path("compare.html"),
    help="File to write.",
)
def compare(runs: tuple[Path, ...], output: Path, quiet: bool) -> None:
    """Print the results of several runs, and write them as one HTML page.

    The page is like that of keras-pep report, with every run in every figure.
    Unfinished runs appear with their results so far.

    \b
    Example:
      keras-pep compare runs/movielens-fm runs/movielens-deepfm
    """
    from keras_pep.lab.report import comparison_table, read_runs, write_page

    if len(runs) < 2:
        raise click.BadParameter(
            f"found {len(runs)} run, expected at least two.",
            param_hint="RUN RUN...",
        )
    contents = read_runs(runs)
    write_page(contents, output)
    click.echo(comparison_table(contents))
    if not quiet:
        click.echo(f"\ncomparison: {output}")
    say_unfinished(contents)
