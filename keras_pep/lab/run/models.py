"""A model of a run, exported, inspected, or used to score rows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_pep.files import folder_of, joined
from keras_pep.lab.run.directory import RunDirectory, RunError
from keras_pep.lab.scoring import Score, scorer_of_model
from keras_pep.serving import (
    Export,
    check_fields,
    export_saved_model,
    field_sizes,
    next_version,
    table_sizes,
    tables_of,
)
from keras_pep.serving.compact import layout_of

# What of an export's report is kept with the metrics of a run.
_SIZES = (
    "table_bytes_dense",
    "table_bytes",
    "vocabulary_bytes",
    "other_bytes",
    "files_bytes",
)


def export_run(
    directory: RunDirectory,
    budget: int | None = None,
    folder: Path | str | None = None,
    version: int | None = None,
    quantize: str | None = "int8",
    *,
    dense: bool = False,
    keep_vocabulary: bool | None = None,
    unless_worse: float | None = None,
) -> Export:
    """Export a model of a run, and add its sizes to `metrics.json`.

    Args:
        directory: The run.
        budget: Of the model; by default that of the best validation AUC.
        folder: The model's directory, which holds its versions; by default
            `saved_models/<run name>`, or of a run that goes on from another
            where the last of those before it is exported to.
        version: By default the one after the last.
        quantize: See `export_saved_model`.
        dense: Whether to export the dense model instead.
        keep_vocabulary: See `export_saved_model`.
        unless_worse: Of a run that goes on from another, by how much the AUC of
            the model before may be higher on the run's test rows.

    Raises:
        RunError: If the run has no such model, or it is worse.
        ExportError: If the version exists, or cannot be written.
    """
    with directory.lock():
        metrics = directory.read_json("metrics.json")
        name, entry = chosen_model(directory, metrics, budget, dense=dense)
        vocabularies = directory.read_vocabularies()
        changes = _changes(directory, metrics, entry, unless_worse)
        folder = folder or _folder_of_exports(directory, metrics)
        if version is None:
            version = next_version(folder)
        export = export_saved_model(
            directory.load_model(name),
            joined(folder, str(version)),
            vocabularies,
            quantize,
            keep_vocabulary=keep_vocabulary,
            more=changes,
        )
        entry["export"] = {
            "path": str(export.path),
            "quantize": quantize,
            **{size: export.report[size] for size in _SIZES},
        }
        directory.write_json("metrics.json", metrics)
        return export


def _folder_of_exports(
    directory: RunDirectory, metrics: Mapping[str, Any]
) -> Path | str:
    """Find where the last exported run is, of those that a run goes on from."""
    earlier = metrics
    while found := earlier.get("continued"):
        try:
            earlier = RunDirectory(found["from"]).read_json("metrics.json")
        except RunError:  # it is no longer there
            break
        for entry in (*earlier["budgets"], earlier["dense"] or {}):
            if "export" in entry:
                return folder_of(entry["export"]["path"])
    return Path("saved_models", directory.path.resolve().name)


def _changes(
    directory: RunDirectory,
    metrics: dict[str, Any],
    entry: dict[str, Any],
    unless_worse: float | None,
) -> dict[str, Any]:
    """Describe what has changed since the run that a run goes on from.

    Raises:
        RunError: If there is none to compare with, or its model is better.
    """
    found = metrics.get("continued")
    if found is None:
        if unless_worse is not None:
            raise RunError(
                f"{directory.path} goes on from no other run, so that there is "
                "no model to compare with. Leave --unless-worse out."
            )
        return {}
    now, before = entry["test"]["auc"], found["before"]["test"]["auc"]
    if unless_worse is not None and not now >= before - unless_worse:
        raise RunError(
            f"{directory.path}: not exported, for it is worse than before: "
            f"test AUC {now:.4f}, that of the model before {before:.4f}. "
            f"Expected: at most {unless_worse:g} less (--unless-worse)."
        )
    return {
        "changes": {
            "from": found["from"],
            "fields": found["fields"],
            "table_bytes": {
                "before": found["exported_bytes_before"]["int8"]["table"],
                "now": entry["exported_bytes"]["int8"]["table"],
            },
            "test_auc": {"before": before, "now": now},
        }
    }


def exported(directory: RunDirectory, metrics: dict[str, Any]) -> str | None:
    """Where the best model of a run was exported to; None if it was not.

    Args:
        directory: The run.
        metrics: Its `metrics.json`.

    Raises:
        RunError: If the run has no model of a budget.
    """
    _, entry = chosen_model(directory, metrics)
    return str(entry["export"]["path"]) if "export" in entry else None


def inspect_run(
    directory: RunDirectory, budget: int | None = None, *, dense: bool = False
) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """Describe the tables of a model of a run.

    Returns:
        `metrics.json`, the model's name, and how it would be served.

    Raises:
        RunError: If the run has no such model.
    """
    metrics = directory.read_json("metrics.json")
    name, _ = chosen_model(directory, metrics, budget, dense=dense)
    model = directory.load_model(name)
    tables = {name: table for name, (_, table) in tables_of(model).items()}
    vocabularies = directory.read_vocabularies()
    check_fields(model, vocabularies)
    sizes = table_sizes(
        {name: table.shape for name, table in tables.items()},
        {name: layout_of(table, None) for name, table in tables.items()},
    )
    fields = field_sizes(model, list(vocabularies), tables, None)
    return metrics, name, {**sizes, "fields": fields}


def scorer_of_run(
    directory: RunDirectory, budget: int | None = None, *, dense: bool = False
) -> tuple[Score, tuple[str, ...]]:
    """Make a function that computes probabilities with a model of a run.

    Returns:
        The function, and the columns it needs.

    Raises:
        RunError: If the run has no such model.
    """
    metrics = directory.read_json("metrics.json")
    name, _ = chosen_model(directory, metrics, budget, dense=dense)
    return scorer_of_model(
        directory.load_model(name), directory.read_vocabularies()
    )


def chosen_model(
    directory: RunDirectory,
    metrics: dict[str, Any],
    budget: int | None = None,
    *,
    dense: bool = False,
) -> tuple[str, dict[str, Any]]:
    """Name and metrics of the model that is asked for.

    Args:
        directory: The run.
        metrics: Its `metrics.json`.
        budget: By default that of the model which the run has chosen, or of
            the best validation AUC.
        dense: Whether the dense model is meant.

    Raises:
        RunError: If there is no such model.
    """
    try:
        if dense:
            if not metrics["dense"]:
                raise RunError(f"{directory.path} has no dense model.")
            return "dense", metrics["dense"]
        choice = metrics.get("choice") or {}
        if choice and budget is None:
            budget = choice["target"]
        if choice and budget is None:
            return "dense", metrics["dense"]
        entries = {entry["target"]: entry for entry in metrics["budgets"]}
        if not entries:
            raise RunError(f"{directory.path} has no model of a budget.")
        if budget is None:
            budget = max(
                entries,
                key=lambda each: entries[each]["validation"]["auc"] or 0.0,
            )
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{directory.path}: metrics.json is damaged: {error!r}."
        ) from error
    if budget not in entries:
        raise RunError(
            f"{directory.path} has no budget of {budget:,}; it has "
            f"{', '.join(f'{each:,}' for each in entries)}."
        )
    return f"budget-{budget}", entries[budget]
