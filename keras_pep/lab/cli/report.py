"""`keras-pep report`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from keras_pep.lab.cli.common import FILE, FOLDER, command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keras_pep.lab.report import RunContent


@command
@click.argument("run", type=FOLDER)
@click.option(
    "--output",
    type=FILE,
    help="File to write.  [default: report.html in RUN]",
)
def report(run: Path, output: Path | None, quiet: bool) -> None:
    """Write the results of RUN as one HTML page, which needs no network.

    The run may be unfinished, or training in another process: then the page
    has the results so far.

    \b
    Examples:
      keras-pep report runs/movielens-fm-20260101-120000
      keras-pep report runs/clicks --output clicks.html
    """
    from keras_pep.lab.report import read_runs, stages_table, write_page

    output = output or run / "report.html"
    (content,) = contents = read_runs([run])
    write_page(contents, output)
    if content.stages and content.unfinished and not quiet:
        click.echo(f"{stages_table(content)}\n")
    click.echo(f"report: {output}")
    say_unfinished(contents)


def say_unfinished(runs: "Sequence[RunContent]") -> None:
    """Tell how far runs are of which not all is known, and what to do."""
    for run in runs:
        if run.unfinished is not None:
            click.echo(
                f"{run.name} is unfinished. {run.unfinished.state} "
                f"{run.unfinished.hint}: {run.unfinished.command}",
                err=True,
            )
