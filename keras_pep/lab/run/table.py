"""The results of a run as a person reads them."""

from collections.abc import Mapping
from typing import Any

from keras_pep.lab.text import UNKNOWN, aligned, figure


def models_in(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The models of a run: their entries, by the names of their files.

    Args:
        metrics: The content of `metrics.json`.
    """
    dense = metrics["dense"]
    named = {} if dense is None else {"dense": dense}
    named |= {f"budget-{each['target']}": each for each in metrics["budgets"]}
    return named | {
        f"{each['method']}-{each['target']}": each
        for each in metrics["baselines"]
    }


def results_table(metrics: Mapping[str, Any], split: str = "test") -> str:
    """Dense model, budgets and what they are compared with, one line each.

    `kept` are the parameters that a budget counts, `total` all of the model,
    `bytes` what its file takes, and `int8` its table as exported in int8.
    Models that could not be trained follow, with the reason.

    Args:
        metrics: The content of `metrics.json`.
        split: Which split's figures to show.
    """
    titles = ("", "kept", "sparsity", f"{split} AUC", "log-loss", "total")
    rows = [(*titles, "bytes", "int8")]
    for name, entry in models_in(metrics).items():
        rows.append(
            (
                shown_name(name, entry),
                f"{entry['embedding_parameters']:,}",
                f"{entry.get('sparsity', 0.0):.1%}",
                figure(entry[split]["auc"]),
                figure(entry[split]["logloss"]),
                f"{entry['total_parameters']:,}",
                f"{entry['bytes']:,}",
                _exported(entry),
            )
        )
    failed = failed_parts(metrics)
    width = max(map(len, failed), default=0)
    return "\n".join(
        [
            aligned(rows),
            *(f"{n.ljust(width)}   failed: {failed[n]}" for n in failed),
        ]
    )


def _exported(entry: Mapping[str, Any]) -> str:
    sizes = entry.get("exported_bytes")  # earlier versions did not know them
    return f"{sizes['int8']['table']:,}" if sizes else UNKNOWN


def shown_name(name: str, entry: Mapping[str, Any]) -> str:
    """A model as tables name it: a small one by its size and its method.

    Args:
        name: Of its file.
        entry: Of `models_in`.
    """
    if name == "dense":
        return name
    parts = [f"{entry['target']:,}", entry.get("method") or ""]
    if not name.startswith("budget-"):
        parts.reverse()
    return " ".join(filter(None, parts))


def advice(metrics: Mapping[str, Any]) -> str | None:
    """Say which model to take, if the run has chosen one.

    Args:
        metrics: The content of `metrics.json`.
    """
    if "choice" not in metrics:
        return None
    choice, dense = metrics["choice"], metrics["dense"]
    if choice is None:
        return "No model fits."
    target, method = choice["target"], choice["method"]
    taken = next(
        (each for each in metrics["budgets"] if each["target"] == target), dense
    )
    if taken is dense:
        what = "Pruning does not pay here: take the dense model"
    elif method in ("uniform", "warm-uniform"):
        columns = taken["embedding_parameters"] // metrics["feature_count"]
        what = (
            "Pruning does not pay here: take a full table of "
            f"{columns} column{'s' * (columns > 1)}"
        )
    else:
        kept = taken["embedding_parameters"]
        entries = f"{kept:,} entr{'y' if kept == 1 else 'ies'}"
        what = f"Take the model of {entries} ({method})"
    rest = ""
    if taken is not dense:
        rest = f" The dense model: {_bytes_and_auc(dense)}."
    return f"{what}: {_bytes_and_auc(taken)}.{rest}"


def continued_line(metrics: Mapping[str, Any]) -> str | None:
    """Say what has changed since the run that this one goes on from, if any.

    Args:
        metrics: The content of `metrics.json`.
    """
    if "continued" not in metrics:
        return None
    changes = metrics["continued"]
    added, gone = (
        sum(field[what] for field in changes["fields"].values())
        for what in ("added", "gone")
    )
    now = (metrics["budgets"] or [metrics["dense"]])[0]
    before = changes["exported_bytes_before"]["int8"]["table"]
    return (
        f"{added:,} new values, {gone:,} gone. On today's test rows: AUC "
        f"{figure(changes['before']['test']['auc'])} before, "
        f"{figure(now['test']['auc'])} now; the table in int8: {before:,} "
        f"bytes before, {_exported(now)} now."
    )


def _bytes_and_auc(entry: Mapping[str, Any]) -> str:
    table = entry["exported_bytes"]["int8"]["table"]
    auc = figure(entry["int8"]["test"]["auc"])
    return f"a table of {table:,} bytes in int8, test AUC {auc}"


def failed_parts(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Tell why models of a run are missing, by their names in the table.

    Args:
        metrics: The content of `metrics.json`.
    """
    budgets = metrics.get("budgets_failed", {})
    baselines = metrics.get("baselines_failed", {})
    return {f"{int(budget):,}": why for budget, why in budgets.items()} | {
        f"{method} {int(budget):,}": why
        for method, failed in baselines.items()
        for budget, why in failed.items()
    }
