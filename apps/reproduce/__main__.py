"""Repeats `keras-pep train` over seeds and prints the table of the README.

Example:
    python -m apps.reproduce --seeds 0,1,2 -- --dataset movielens
    --data-dir ml-1m --features paper --search paper --budget 50000
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click


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

    A run directory that holds the results of these arguments is not run again.
    """
    runs = []
    for seed in map(int, seeds.split(",")):
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
    click.echo(table(runs))


def table(runs: Sequence[dict[str, Any]]) -> str:
    """Test AUC by budget and seed as Markdown: mean, spread, each run."""
    seeds = [f"seed {run['seed']}" for run in runs]
    lines = [
        ["budget", "pruned", "test AUC", *seeds, "passed at step", "bytes"],
        ["---:"] * (5 + len(seeds)),
    ]
    rows = [[run["dense"] for run in runs if run["dense"]]]
    for kind in ("budgets", "baselines"):
        entries = (run.get(kind, []) for run in runs)
        rows += [list(row) for row in zip(*entries, strict=True)]
    for row in filter(None, rows):
        aucs = [entry["test"]["auc"] for entry in row]
        steps = [f"{e['search_step']:,}" for e in row if "search_step" in e]
        method, parameters = row[0].get("method"), row[0].get("target")
        parameters = parameters or row[0]["embedding_parameters"]
        lines.append(
            [
                f"{parameters:,}" + (f", {method}" if method else ""),
                f"{statistics.mean(e.get('sparsity', 0.0) for e in row):.1%}",
                f"{statistics.mean(aucs):.4f} ± {statistics.stdev(aucs):.4f}"
                if len(aucs) > 1
                else f"{aucs[0]:.4f}",
                *(f"{auc:.4f}" for auc in aucs),
                " / ".join(steps),
                f"{statistics.mean(e['bytes'] for e in row):,.0f}",
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
