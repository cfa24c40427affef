"""The checked contents of a run directory, as a page shows them.

Nothing that is read is trusted: a figure is a number or None, and everything
else is text, which the page has to escape.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from keras_pep.data.dataset import Parsed
from keras_pep.data.fields import Vocabulary
from keras_pep.lab.report.features import FeatureContent, feature_content
from keras_pep.lab.report.names import printable
from keras_pep.lab.report.unfinished import Unfinished, how_far, results_so_far
from keras_pep.lab.run import (
    Config,
    RunDirectory,
    RunError,
    advice,
    failed_parts,
)
from keras_pep.lab.run.table import models_in, shown_name

SPLITS = ("test", "validation")
_DRAWN = 3000  # points of a figure of features, of all runs together
_DRAWN_OF_A_RUN = 300  # at least
_STEPS = 1000  # points of a curve over steps
_MODELS = {
    "lr": "Logistic regression",
    "fm": "FM",
    "fvfm": "FvFM",
    "gem": "GEM",
    "deepfm": "DeepFM",
    "dcn": "DCN",
    "autoint": "AutoInt",
}


@dataclass(frozen=True)
class ModelContent:
    """A trained model of a run.

    Attributes:
        name: As the results table has it.
        kind: `"dense"`, `"search"`, or the method of a baseline.
        target: The budget that was asked for; None of the dense model.
        kept: Embedding parameters, all that a budget counts.
        total: Parameters of the whole model.
        sparsity: Share of the embedding parameters that went.
        bytes: What the stored weights take.
        exported: What the model takes as exported in int8, if it is known.
        method: How it was found, where a run has tried several ways.
        search_step: When the search had its ticket, if there was one.
        figures: AUC and log-loss of every split.
    """

    name: str
    kind: str
    target: int | None
    kept: int
    total: int
    sparsity: float
    bytes: int
    exported: int | None
    method: str | None
    search_step: int | None
    figures: Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True)
class StageContent:
    """How a training went: a value of each of its epochs.

    Attributes:
        name: Of the stage.
        epochs: Their numbers, from 1.
        loss: On training rows.
        auc: On validation rows.
        logloss: On validation rows.
        kept: Embedding parameters in the end.
        seconds: That each took, with its validation.
    """

    name: str
    epochs: list[int]
    loss: list[float | None]
    auc: list[float | None]
    logloss: list[float | None]
    kept: list[int]
    seconds: list[float]


@dataclass(frozen=True)
class RunContent:
    """Everything that a page shows of a run.

    Attributes:
        name: Of the run, unlike those of others on the page.
        facts: What was trained on what, by name, as text.
        models: The dense model, if there is one, first.
        not_reached: Budgets without a model.
        failed: Why models could not be trained, by their names in the table.
        stages: What was trained, in order.
        unfinished: How far the run is; None if it is finished.
        kept: Kept parameters over the steps of each search, with their
            standard errors, 0 where they were counted; None if the run
            has not noted them.
        features: What became of the features; None if the run has not noted
            what they are.
        command: That made the run, if it is known.
        advice: Which model to take, if the run has chosen one.
        columns: How columns of files were taken, as text.
        settings: Of the run, as text.
        environment: Versions, as text.
    """

    name: str
    facts: Mapping[str, str]
    models: Sequence[ModelContent]
    not_reached: Sequence[int]
    failed: Mapping[str, str]
    stages: Sequence[StageContent]
    unfinished: Unfinished | None
    kept: Mapping[str, Mapping[str, list[int]]] | None
    features: FeatureContent | None
    command: str | None
    advice: str | None = None
    columns: Sequence[Sequence[str]] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def dense(self) -> ModelContent | None:
        """The dense model, if there is one."""
        return next((m for m in self.models if m.kind == "dense"), None)


def read_runs(paths: Sequence[str | Path]) -> list[RunContent]:
    """Reads what a page shows of some runs.

    Args:
        paths: Run directories.

    Raises:
        RunError: If one is not a run directory, or is given twice, or its
            files are damaged or do not belong together.
    """
    drawn = max(_DRAWN // len(paths), _DRAWN_OF_A_RUN)
    return [
        _run_content(RunDirectory(path), name, drawn)
        for path, name in zip(paths, _names(paths), strict=True)
    ]


def _names(paths: Sequence[str | Path]) -> list[str]:
    """Name directories, by their whole paths where names are ambiguous."""
    places: dict[Path, str | Path] = {}
    for path in paths:
        place = Path(path).resolve()
        if place in places:
            raise RunError(
                f"The same run is given twice: {places[place]} and {path}."
            )
        places[place] = path
    names = [place.name for place in places]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    return [printable(name) for name in names]


def _run_content(directory: RunDirectory, name: str, drawn: int) -> RunContent:
    """Read a run that may be going on: every file is whole, but may be new."""
    if not directory.finished:
        try:
            content = _read(directory, name, drawn, finished=False)
        except RunError:
            if not directory.finished:
                raise
        else:
            if not directory.finished:
                return content
    return _read(directory, name, drawn, finished=True)


def _read(
    directory: RunDirectory, name: str, drawn: int, *, finished: bool
) -> RunContent:
    config = directory.read_json("config.json")
    vocabularies = None
    if (directory.path / "vocabularies.json").exists():
        vocabularies = directory.read_vocabularies()
    stages = _stages(directory)
    last = (stages[-1].name, len(stages[-1].epochs)) if stages else ("", 0)
    try:
        metrics = (
            directory.read_json("metrics.json")
            if finished
            else results_so_far(directory, Config.of_run(config), vocabularies)
        )
        command = config.pop("command", None)
        environment = config.pop("environment", None) or {}
        derived = config.pop("derived", {})
        settings = {**config, **derived}
        content = RunContent(
            name=name,
            facts=_facts(metrics),
            models=[_model(*each) for each in models_in(metrics).items()],
            not_reached=[
                _whole(b) for b in metrics.get("budgets_not_reached", ())
            ],
            failed=_texts(failed_parts(metrics)),
            stages=stages,
            unfinished=None
            if finished
            else how_far(directory, metrics["stages"], last),
            kept=_over_steps(directory.read_kept()),
            features=None,
            command=None if command is None else printable(command),
            advice=advice(metrics),
            columns=[
                [printable(text) for text in Parsed(**column).texts()]
                for column in metrics.get("columns", ())
            ],
            settings={printable(n): _setting(v) for n, v in settings.items()},
            environment=_texts(environment),
        )
        tickets: dict[int, int | None] = {
            _whole(budget): None for budget in metrics.get("tickets", ())
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        known = "metrics.json" if finished else "a *.stage.json"
        raise RunError(
            f"{directory.path}: {known} or config.json is damaged, or of "
            f"another version of keras-pep: {error!r}."
        ) from error
    tickets |= {
        # What projects vectors is in no ticket.
        model.target: None if model.method == "mixed-dimension" else model.kept
        for model in content.models
        if model.kind == "search" and model.target is not None
    }
    if vocabularies is None or not tickets:
        return content
    features = _features(directory, vocabularies, tickets, drawn)
    return replace(content, features=features)


def _facts(metrics: Mapping[str, Any]) -> dict[str, str]:
    rows = metrics["rows"]
    search = metrics["search"]
    how = [search["method"], search["granularity"]]
    if search["steps"] is not None:
        how.append(f"{_whole(search['steps']):,} steps")
    return {
        "data": printable(metrics["dataset"]),
        "feature set": printable(metrics["features"]),
        "model": _MODELS.get(metrics["model"], printable(metrics["model"])),
        "embedding": f"{_whole(metrics['embedding_dim']):,} columns",
        "features": ""
        if metrics["feature_count"] is None
        else f"{_whole(metrics['feature_count']):,} in "
        f"{_whole(metrics['fields']):,} fields",
        "rows": ", ".join(f"{printable(n)} {_whole(rows[n]):,}" for n in rows),
        "search": ", ".join(map(printable, how)),
        "seed": printable(metrics["seed"]),
    }


def _model(name: str, entry: Mapping[str, Any]) -> ModelContent:
    dense, searched = name == "dense", name.startswith("budget-")
    step, sizes = entry.get("search_step"), entry.get("exported_bytes")
    method = entry.get("method")
    method = None if method is None else printable(method)
    kind = "dense" if dense else "search" if searched else str(method)
    return ModelContent(
        name=printable(shown_name(name, entry)),
        kind=kind,
        target=None if dense else _whole(entry["target"]),
        kept=_whole(entry["embedding_parameters"]),
        total=_whole(entry["total_parameters"]),
        sparsity=0.0 if dense else _figure(entry["sparsity"]) or 0.0,
        bytes=_whole(entry["bytes"]),
        exported=None if sizes is None else _whole(sizes["int8"]["model"]),
        method=method if searched else None,
        search_step=None if step is None else _whole(step),
        figures={
            split: {
                figure: _figure(entry[split][figure])
                for figure in ("auc", "logloss")
            }
            for split in SPLITS
        },
    )


def _stages(directory: RunDirectory) -> list[StageContent]:
    if not (directory.path / "history.csv").exists():
        return []
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in directory.read_history():
        rows.setdefault(row.get("stage", ""), []).append(row)
    try:
        return [
            StageContent(
                name=printable(stage),
                epochs=[_whole(row["epoch"]) for row in part],
                loss=[_figure(row["loss"]) for row in part],
                auc=[_figure(row["val_auc"]) for row in part],
                logloss=[_figure(row["val_logloss"]) for row in part],
                kept=[_whole(row["embedding_parameters"]) for row in part],
                seconds=[_figure(row["seconds"]) or 0.0 for row in part],
            )
            for stage, part in rows.items()
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{directory.path / 'history.csv'} is damaged: {error!r}."
        ) from error


def _over_steps(
    rows: pd.DataFrame | None,
) -> dict[str, dict[str, list[int]]] | None:
    """Curves of no more points than can be told apart."""
    if rows is None:
        return None
    curves = {}
    for stage, part in rows.groupby("stage", sort=False):
        places = np.linspace(0, len(part) - 1, min(len(part), _STEPS))
        thinned = part.iloc[places.astype(int)]
        curves[printable(stage)] = {
            "steps": thinned["step"].tolist(),
            "kept": thinned["embedding_parameters"].tolist(),
            "errors": [round(x) for x in thinned["standard_error"].fillna(0)],
        }
    return curves


def _features(
    directory: RunDirectory,
    vocabularies: Mapping[str, Vocabulary],
    tickets: Mapping[int, int | None],
    drawn: int,
) -> FeatureContent:
    """Count the entries of each feature that the tickets keep.

    Args:
        directory: Of the run.
        vocabularies: What the features are.
        tickets: What the model of each keeps, if there is one.
        drawn: How many features to draw.
    """
    count = sum(len(vocabulary) for vocabulary in vocabularies.values())
    counts = directory.read_counts()
    if counts is not None and counts.size != count:
        raise RunError(
            f"{directory.path}: counts.npy has {counts.size:,} features, "
            f"vocabularies.json {count:,}: they do not belong together."
        )
    sizes = {
        budget: _sizes(directory, budget, kept, count)
        for budget, kept in tickets.items()
    }
    return feature_content(vocabularies, counts, sizes, drawn)


def _sizes(
    directory: RunDirectory, budget: int, kept: int | None, features: int
) -> np.ndarray:
    """Kept entries of every feature: int64, `(features,)`."""
    ticket = directory.load_ticket(budget)
    rows = [table.shape[0] for table in ticket.tables.values()]
    name = f"{directory.path}: the ticket of {budget:,}"
    if not rows or set(rows) != {features}:
        raise RunError(
            f"{name} has tables of {', '.join(f'{n:,}' for n in rows)} rows, "
            f"expected the {features:,} features of vocabularies.json."
        )
    if kept not in (None, ticket.embedding_parameters):
        raise RunError(
            f"{name} keeps {ticket.embedding_parameters:,} parameters, its "
            f"model {kept:,}: they do not belong together."
        )
    sizes = np.zeros(features, dtype=np.int64)
    for table in ticket.tables.values():
        sizes += table.embedding_sizes()
    return sizes


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {printable(n): printable(v) for n, v in values.items()}


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(printable, value))
    return "" if value is None else printable(value)


def _whole(value: Any) -> int:
    """An integer that is not negative.

    Raises:
        TypeError, ValueError: If it is none.
    """
    if type(value) is not int:
        raise TypeError(f"expected an integer, found {value!r}")
    if value < 0:
        raise ValueError(f"expected no negative number, found {value!r}")
    return value


def _figure(value: Any) -> float | None:
    """A finite number; None where training has diverged.

    Raises:
        TypeError: If it is something else.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"expected a number, found {value!r}")
    return float(value) if np.isfinite(value) else None
