"""Repeats `keras-pep train` over seeds and prints a table of docs/results.md.

Example:
    python -m apps.reproduce --seeds 0,1,2 -- --dataset movielens
    --data-dir ml-1m --features paper --search paper --budget 50000
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from apps.reproduce.tables import costs, frontier, table


@click.command()
@click.option(
    "--seeds", default="0,1,2", show_default=True, help="Comma-separated."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs", "reproduce"),
    show_default=True,
    help="Folder for one run directory per seed.",
)
@click.argument("arguments", nargs=-1, required=True)
def main(seeds: str, out: Path, arguments: Sequence[str]) -> None:
    """Run `keras-pep train ARGUMENTS` for every seed; print a table.

    With `--compare` among the arguments it has a column for every method.
    Runs of sizes in bytes are shown by bytes; see `tables.frontier`.

    A run directory that holds the results of these arguments is not run again.
    """
    runs = runs_of(arguments, map(int, seeds.split(",")), out)
    entries = [entry for run in runs for entry in run["budgets"]]
    by_bytes = all(entry.get("max_bytes") for entry in entries)
    click.echo(
        frontier({"": runs}) if by_bytes else f"{table(runs)}\n\n{costs(runs)}"
    )


def runs_of(
    arguments: Sequence[str], seeds: Iterable[int], out: Path
) -> list[dict[str, Any]]:
    """Run `keras-pep train` for every seed, unless that was done.

    Args:
        arguments: Of the command.
        seeds: The seeds.
        out: Folder for `seed-<N>`, the run directories.

    Returns:
        The `metrics.json` of each.
    """
    runs = []
    for seed in seeds:
        folder = out / f"seed-{seed}"
        known = folder / "reproduce.json"
        if not known.exists() or json.loads(known.read_text()) != [*arguments]:
            known.unlink(missing_ok=True)
            command = ["train", *arguments, "--seed", str(seed), "--force"]
            done = subprocess.run(
                [
                    Path(sys.executable).with_name("keras-pep"),
                    *command,
                    *("--run-dir", folder),
                ],
                check=False,
            )
            if done.returncode:
                raise click.ClickException(f"seed {seed} failed, see above.")
            known.write_text(json.dumps(arguments))
        runs.append(json.loads((folder / "metrics.json").read_text()))
    return runs


if __name__ == "__main__":
    main()
