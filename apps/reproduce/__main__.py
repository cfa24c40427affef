"""Repeats `keras-pep train` over seeds and prints a table of docs/results.md.

Example:
    python -m apps.reproduce --seeds 0,1,2 -- --dataset movielens
    --data-dir ml-1m --features paper --search paper --budget 50000
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
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

    With `--compare` among the arguments it has a column for every method.
    Runs of sizes in bytes are shown by bytes; see `frontier`.

    A run directory that holds the results of these arguments is not run again.
    """
    runs = runs_of(arguments, map(int, seeds.split(",")), out)
    entries = [entry for run in runs for entry in run["budgets"]]
    by_bytes = all(entry.get("max_bytes") for entry in entries)
    click.echo(
        frontier(runs) if by_bytes else f"{table(runs)}\n\n{costs(runs)}"
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


def table(runs: Sequence[dict[str, Any]]) -> str:
    """Test AUC by budget and method as Markdown, mean and spread of seeds."""
    dense = [run["dense"] for run in runs if run["dense"]]
    entries: dict[int, dict[str, list[dict[str, Any]]]] = {}
    methods = ["keras-pep"]
    for run in runs:
        own = [{**entry, "method": methods[0]} for entry in run["budgets"]]
        for entry in own + run["baselines"]:
            of_budget = entries.setdefault(entry["target"], {})
            of_budget.setdefault(entry["method"], []).append(entry)
            if entry["method"] not in methods:
                methods.append(entry["method"])
    lines = [["budget", "pruned", *methods], ["---:"] * (2 + len(methods))]
    if dense:
        parameters = f"{dense[0]['embedding_parameters']:,}"
        lines.append([parameters, "0.0%", f"dense {_mean(dense)}"])
        lines[-1] += [""] * (len(methods) - 1)
    for budget, found in sorted(entries.items(), reverse=True):
        pruned = statistics.mean(
            entry["sparsity"] for entry in next(iter(found.values()))
        )
        lines.append(
            [
                f"{budget:,}",
                f"{pruned:.1%}",
                *(_mean(found[m]) if m in found else "-" for m in methods),
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def frontier(runs: Sequence[dict[str, Any]]) -> str:
    """Test AUC by bytes as Markdown: what the runs took, and their rivals.

    Sizes are those of the run's own dense table in int8: half of its bytes, a
    quarter and so on, or those asked for. A rival stands where it has no more
    bytes than the size. Behind is what the best rival has more, in the mean.
    """
    methods = list(
        dict.fromkeys(b["method"] for run in runs for b in run["baselines"])
    )
    titles = ["size", "table, int8", "keras-pep", "by", *methods, "behind"]
    dense = [run["dense"] for run in runs]
    first = ["dense", _bytes(dense), _mean(dense)]
    lines = [
        titles,
        ["---:"] * len(titles),
        [*first, *[""] * (len(titles) - 3)],
    ]
    for cell in cells(runs):
        rivals, behind = cell["rivals"], cell["behind"]
        lines.append(
            [
                cell["size"],
                _bytes(cell["own"]),
                _mean(cell["own"]),
                ", ".join(dict.fromkeys(e["method"] for e in cell["own"])),
                *(_mean(rivals[m]) if m in rivals else "-" for m in methods),
                "-" if behind is None else f"{max(behind, 0.0):.4f}",
            ]
        )
    minutes = statistics.mean(run["seconds"] for run in runs) / 60
    return "\n".join(
        [
            *(f"| {' | '.join(line)} |" for line in lines),
            f"\nA run trained for {minutes:.1f} minutes, rivals included.",
        ]
    )


def cells(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each size in bytes: what runs took, their rivals, and who is ahead.

    Returns:
        Of each size `size`, as a part of the dense table; `own`, the entry of
        each run; `rivals`, by method the best of each run, by validation, that
        has no more bytes; `best`, the rival with the highest mean test AUC of
        those that all runs have, or None; and `behind`, by how much it is
        ahead, or None.
    """
    found = []
    for place in range(min(len(run["budgets"]) for run in runs)):
        own = [run["budgets"][place] for run in runs]
        allowed = [entry["max_bytes"] for entry in own]
        if None in allowed:
            continue
        rivals: dict[str, list[Mapping[str, Any]]] = {}
        for run, most in zip(runs, allowed, strict=True):
            for method in {each["method"]: 0 for each in run["baselines"]}:
                fitting = [
                    entry
                    for entry in run["baselines"]
                    if entry["method"] == method
                    and entry["exported_bytes"]["int8"]["table"] <= most
                ]
                if fitting:
                    best = max(fitting, key=lambda e: e["validation"]["auc"])
                    rivals.setdefault(method, []).append(best)
        whole = {m: _auc(r) for m, r in rivals.items() if len(r) == len(runs)}
        first = max(whole, key=lambda m: whole[m], default=None)
        share = statistics.mean(
            most / run["dense"]["exported_bytes"]["int8"]["table"]
            for most, run in zip(allowed, runs, strict=True)
        )
        found.append(
            {
                "size": f"1/{1 / share:.0f}",
                "own": own,
                "rivals": rivals,
                "best": first,
                "behind": None if first is None else whole[first] - _auc(own),
            }
        )
    return found


def _bytes(entries: Sequence[dict[str, Any]]) -> str:
    sizes = [entry["exported_bytes"]["int8"]["table"] for entry in entries]
    return f"{statistics.mean(sizes) / 1000:,.1f} kB"


def exported_aucs(entries: Sequence[Mapping[str, Any]]) -> list[float]:
    """Test AUC of each model as exported, in int8 where that is known."""
    return [each.get("int8", each)["test"]["auc"] for each in entries]


def _auc(entries: Sequence[Mapping[str, Any]]) -> float:
    return float(statistics.mean(exported_aucs(entries)))


def costs(runs: Sequence[dict[str, Any]]) -> str:
    """Compare times of stages with training dense to its best epoch."""
    searches, retrainings = [], []
    for run in runs:
        if run["dense"] and run["search"]["seconds"] is not None:
            unit = run["dense"]["seconds_to_best"]
            searches.append(run["search"]["seconds"] / unit)
            retrainings += [b["seconds"] / unit for b in run["budgets"]]
    if not searches:
        return ""
    return (
        "In times of training the dense model to its best epoch: the search "
        f"{min(searches):.2f} - {max(searches):.2f}, a retraining "
        f"{min(retrainings):.2f} - {max(retrainings):.2f}."
    )


def _mean(entries: Sequence[dict[str, Any]]) -> str:
    aucs = [entry["test"]["auc"] for entry in entries]
    if len(aucs) == 1:
        return f"{aucs[0]:.4f} (1 seed)"
    return f"{statistics.mean(aucs):.4f} ± {statistics.stdev(aucs):.4f}"


if __name__ == "__main__":
    main()
