"""Compares the default command with its rivals by bytes, on several data sets.

Example:
    python -m apps.reproduce.frontier --data /path/to/data --seeds 0,1,2
    python -m apps.reproduce.frontier --sets mine.toml --model deepfm
"""

import statistics
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from apps.reproduce.__main__ import cells, exported_aucs, runs_of

RIVALS = (
    *("uniform", "mixed-dimension", "magnitude", "gradual-magnitude"),
    "hot-rows",
)
CLOSE = 0.0005  # of an AUC


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

    Beside each the best of the rivals with no more bytes. Runs that are done
    are not run again.
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
    click.echo(table(runs))


def table(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Write the table as Markdown, and below it how many cells are ahead.

    Args:
        runs: By data set, the `metrics.json` of each seed.
    """
    lines = [
        "| data | size | kB | keras-pep | by | best rival | by | ahead by |",
        "| --- | ---: | ---: | ---: | --- | ---: | --- | ---: |",
    ]
    behind = []
    for name, found in runs.items():
        dense = [run["dense"] for run in found]
        lines.append(_line(name, "dense", dense, "", "", "", ""))
        for cell in cells(found)[:3]:
            own, by = cell["own"], ", ".join(_methods(cell["own"]))
            if cell["best"] is None:
                lines.append(_line("", cell["size"], own, by, "-", "", "-"))
                continue
            rival = _auc(cell["rivals"][cell["best"]])
            behind.append(cell["behind"])
            ahead = f"{-cell['behind']:+.4f}"
            size, best = cell["size"], cell["best"]
            lines.append(_line("", size, own, by, rival, best, ahead))
    close = sum(each <= CLOSE for each in behind)
    worst = max([0.0, *behind])
    return "\n".join(lines) + (
        f"\n\nAhead, or behind by at most {CLOSE}: {close} of {len(behind)} "
        f"sizes. Behind by at most {worst:.4f}."
    )


def _line(
    name: str,
    size: str,
    own: Sequence[Mapping[str, Any]],
    *others: str,
) -> str:
    sizes = [each["exported_bytes"]["int8"]["table"] for each in own]
    kilobytes = f"{statistics.mean(sizes) / 1000:,.1f}"
    return f"| {' | '.join([name, size, kilobytes, _auc(own), *others])} |"


def _auc(entries: Sequence[Mapping[str, Any]]) -> str:
    aucs = exported_aucs(entries)
    mean = f"{statistics.mean(aucs):.4f}"
    return mean if len(aucs) == 1 else f"{mean} ± {statistics.stdev(aucs):.4f}"


def _methods(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    return [*dict.fromkeys(each["method"] for each in entries)]


if __name__ == "__main__":
    main()
