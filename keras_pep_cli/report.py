"""`keras-pep report`."""

from pathlib import Path

import click

from keras_pep_cli.common import command


@command
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write.  [default: report.html in RUN]",
)
def report(run: Path, output: Path | None, quiet: bool) -> None:
    """Write what RUN has found as one HTML page, which needs no network.

    \b
    Examples:
      keras-pep report runs/movielens-fm-20260101-120000
      keras-pep report runs/clicks --output clicks.html
    """
    from keras_pep.report import write_report

    del quiet  # there is nothing but results
    click.echo(f"report: {write_report(run, output)}")
