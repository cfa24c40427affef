"""Compares the default command with its rivals by bytes, on several data sets.

Example:
    python -m apps.reproduce.frontier --data /path/to/data --seeds 0,1,2
    python -m apps.reproduce.frontier --sets mine.toml --model deepfm
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path

import click

from apps.reproduce.__main__ import runs_of
from apps.reproduce.tables import frontier

RIVALS = (
    *("uniform", "mixed-dimension", "magnitude", "gradual-magnitude"),
    "hot-rows",
)


@click.command()
@click.option(
    "--sets",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    default=Path(__file__).with_name("sets.toml"),
    show_default="sets.toml beside this program",
    help="TOML file: for the name of each data set options of keras-pep train.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Folder that replaces {data} in these options.",
)
@click.option("--only", multiple=True, help="Name of a data set. Repeatable.")
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--model", default="fm", show_default=True)
@click.option(
    *("--compare", "rivals"),
    multiple=True,
    default=RIVALS,
    show_default=True,
    help="A rival. Repeatable.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs", "frontier"),
    show_default=True,
    help="Folder for the run directories.",
)
def main(
    sets: Path,
    data: Path,
    only: Sequence[str],
    seeds: str,
    model: str,
    rivals: Sequence[str],
    out: Path,
) -> None:
    """Print test AUC at 1/2, 1/4 and 1/8 of the dense table's bytes in int8.

    Beside each the rivals with no more bytes. Runs that are done are not run
    again.
    """
    known = tomllib.loads(sets.read_text())
    if unknown := {*only} - {*known}:
        raise click.BadParameter(
            f"found {', '.join(sorted(unknown))}, expected names of {sets}: "
            f"{', '.join(known)}.",
            param_hint="--only",
        )
    runs = {}
    for name in only or known:
        options = [each.replace("{data}", str(data)) for each in known[name]]
        for rival in rivals:
            options += ["--compare", rival]
        runs[name] = runs_of(
            [*options, "--model", model],
            map(int, seeds.split(",")),
            out / model / name,
        )
    click.echo(frontier(runs))


if __name__ == "__main__":
    main()
