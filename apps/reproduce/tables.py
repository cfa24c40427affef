"""The tables of results: by budget, and by bytes beside rivals."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_pep.lab.text import markdown

CLOSE = 0.0005  # of an AUC

# The `metrics.json` of a run, or an entry of it.
Metrics = Mapping[str, Any]


def table(runs: Sequence[Metrics]) -> str:
    """Test AUC by budget and method as Markdown, mean and spread of seeds."""
    dense = [run["dense"] for run in runs if run["dense"]]
    entries: dict[int, dict[str, list[Metrics]]] = {}
    methods = ["keras-pep"]
    for run in runs:
        own = [{**entry, "method": methods[0]} for entry in run["budgets"]]
        for entry in own + run["baselines"]:
            of_budget = entries.setdefault(entry["target"], {})
            of_budget.setdefault(entry["method"], []).append(entry)
            if entry["method"] not in methods:
                methods.append(entry["method"])
    rows = []
    if dense:
        parameters = f"{dense[0]['embedding_parameters']:,}"
        others = [""] * (len(methods) - 1)
        rows.append([parameters, "0.0%", f"dense {_auc(dense)}", *others])
    for budget, found in sorted(entries.items(), reverse=True):
        first = next(iter(found.values()))
        pruned = statistics.mean(entry["sparsity"] for entry in first)
        cells = [_auc(found[m]) if m in found else "-" for m in methods]
        rows.append([f"{budget:,}", f"{pruned:.1%}", *cells])
    return markdown(["budget", "pruned", *methods], rows)


def costs(runs: Sequence[Metrics]) -> str:
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


def frontier(data: Mapping[str, Sequence[Metrics]]) -> str:
    """Test AUC by bytes as Markdown: what runs took, and their rivals.

    Sizes are those of the run's own dense table in int8: half of its bytes, a
    quarter and so on, or those asked for. keras-pep and each rival stand there
    with the best model, by validation, that has no more bytes. AUC is that of
    models as exported, in int8. Below is in how many sizes the best rival is
    not ahead.

    Args:
        data: The runs of each data set, a seed each.
    """
    baselines = [
        b for runs in data.values() for r in runs for b in r["baselines"]
    ]
    methods = [*dict.fromkeys(each["method"] for each in baselines)]
    rows, behind = [], []
    for name, runs in data.items():
        dense = [_exported(run["dense"]) for run in runs]
        rows.append([name, "dense", _bytes(dense), _auc(dense)])
        rows[-1] += [""] * (len(methods) + 2)
        for size, own, rivals in _sizes(runs):
            means = [_mean(r) for r in rivals.values() if len(r) == len(runs)]
            ahead = max(means, default=None)
            less = None if ahead is None else max(ahead - _mean(own), 0.0)
            behind += [] if less is None else [less]
            rows.append(
                [
                    *("", size, _bytes(own), _auc(own)),
                    ", ".join(dict.fromkeys(e["method"] for e in own)),
                    *(_auc(rivals[m]) if m in rivals else "-" for m in methods),
                    "-" if less is None else f"{less:.4f}",
                ]
            )
    titles = ["data", "size", "table, int8", "keras-pep", "by"]
    close = sum(each <= CLOSE for each in behind)
    minutes = statistics.mean(
        run["seconds"] / 60 for runs in data.values() for run in runs
    )
    return (
        f"{markdown([*titles, *methods, 'behind'], rows)}\n\n"
        f"Ahead, or behind by at most {CLOSE}: {close} of {len(behind)} sizes. "
        f"Behind by at most {max([0.0, *behind]):.4f}.\n"
        f"A run trained for {minutes:.1f} minutes, rivals included."
    )


def _sizes(
    runs: Sequence[Metrics],
) -> Iterable[tuple[str, list[Metrics], dict[str, list[Metrics]]]]:
    """For each size in bytes: what runs took, and their rivals.

    Yields:
        The size as a part of the dense table; of each run the best model, by
        validation, that has no more bytes; and the rivals' by their methods.
    """
    for place in range(min(len(run["budgets"]) for run in runs)):
        allowed = [run["budgets"][place]["max_bytes"] for run in runs]
        if None in allowed:
            continue
        own: list[Metrics] = []
        rivals: dict[str, list[Metrics]] = {}
        for run, most in zip(runs, allowed, strict=True):
            own.append(_rising(run["budgets"], most)[-1])
            rising = _rising(run["baselines"], most)
            for method, best in {e["method"]: e for e in rising}.items():
                rivals.setdefault(method, []).append(best)
        share = statistics.mean(
            most / _size(run["dense"])
            for most, run in zip(allowed, runs, strict=True)
        )
        yield f"1/{1 / share:.0f}", own, rivals


def _rising(entries: Sequence[Metrics], most: int) -> list[Metrics]:
    """Models that have no more bytes, by rising validation AUC."""
    fitting = [_exported(each) for each in entries if _size(each) <= most]
    return sorted(fitting, key=lambda e: e["validation"]["auc"])


def _size(entry: Metrics) -> int:
    return int(entry["exported_bytes"]["int8"]["table"])


def _bytes(entries: Sequence[Metrics]) -> str:
    return f"{statistics.mean(map(_size, entries)) / 1000:,.1f} kB"


def _mean(entries: Sequence[Metrics]) -> float:
    return float(statistics.mean(each["test"]["auc"] for each in entries))


def _auc(entries: Sequence[Metrics]) -> str:
    aucs = [each["test"]["auc"] for each in entries]
    spread = f"± {statistics.stdev(aucs):.4f}" if len(aucs) > 1 else "(1 seed)"
    return f"{statistics.mean(aucs):.4f} {spread}"


def _exported(entry: Metrics) -> Metrics:
    """Add what a model is as exported, in int8 where that is known."""
    return {**entry, **entry.get("int8", {})}
