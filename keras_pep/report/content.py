"""What a run directory says, checked, as a page can show it.

Nothing that is read is trusted: a figure is a number or None, and everything
else is text, which the page has to escape.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from keras_pep.report.features import FeatureContent, feature_content
from keras_pep.report.names import printable
from keras_pep.run import RunDirectory, RunError

SPLITS = ("test", "validation")
_DRAWN = 3000  # points of a figure of features, of all runs together
_DRAWN_OF_A_RUN = 300  # at least
_STEPS = 1000  # points of a curve over steps
_MODELS = {
    "lr": "Logistic regression",
    "fm": "FM",
    "deepfm": "DeepFM",
    "autoint": "AutoInt",
}


@dataclass(frozen=True)
class ModelContent:
    """A trained model of a run.

    Attributes:
        kind: `"dense"`, `"search"`, or the method of a baseline.
        target: The budget that was asked for; None of the dense model.
        kept: Embedding parameters, all that a budget counts.
        total: Parameters of the whole model.
        sparsity: Share of the embedding parameters that went.
        bytes: What the stored weights take.
        search_step: When the search had its ticket, if there was one.
        figures: AUC and log-loss of every split.
    """

    kind: str
    target: int | None
    kept: int
    total: int
    sparsity: float
    bytes: int
    search_step: int | None
    figures: Mapping[str, Mapping[str, float | None]]

    @property
    def name(self) -> str:
        """As the results table has it."""
        if self.target is None:
            return "dense"
        if self.kind == "search":
            return f"{self.target:,}"
        return f"{self.kind} {self.target:,}"


@dataclass(frozen=True)
class RunContent:
    """Everything that a page shows of a run.

    Attributes:
        name: Of the run, unlike those of others on the page.
        facts: What was trained on what, by name, as text.
        models: The dense model, if there is one, first.
        not_reached: Budgets without a model.
        kept: Kept parameters over the steps of each search; None if the run
            has not noted them.
        features: What became of the features; None if the run has not noted
            what they are.
        command: That made the run, if it is known.
        settings: Of the run, as text.
        environment: Versions, as text.
    """

    name: str
    facts: Mapping[str, str]
    models: Sequence[ModelContent]
    not_reached: Sequence[int]
    kept: Mapping[str, Mapping[str, list[int]]] | None
    features: FeatureContent | None
    command: str | None
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
        RunError: If one is not a run directory, is not complete, or its files
            are damaged or do not belong together.
    """
    drawn = max(_DRAWN // len(paths), _DRAWN_OF_A_RUN)
    return [
        _run_content(RunDirectory(path), name, drawn)
        for path, name in zip(paths, _names(paths), strict=True)
    ]


def _names(paths: Sequence[str | Path]) -> list[str]:
    """Of the directories, or their whole paths where that is ambiguous."""
    names = [Path(path).resolve().name for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    if len(set(names)) < len(names):
        raise RunError("The same run is given twice.")
    return [printable(name) for name in names]


def _run_content(directory: RunDirectory, name: str, drawn: int) -> RunContent:
    metrics = directory.read_json("metrics.json")
    config = directory.read_json("config.json")
    try:
        command = config.pop("command", None)
        environment = config.pop("environment", None) or {}
        content = RunContent(
            name=name,
            facts=_facts(metrics),
            models=_models(metrics),
            not_reached=[
                _whole(b) for b in metrics.get("budgets_not_reached", ())
            ],
            kept=_over_steps(directory.read_kept()),
            features=None,
            command=None if command is None else printable(command),
            settings={printable(n): _setting(v) for n, v in config.items()},
            environment=_texts(environment),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"{directory.path}: metrics.json or config.json is damaged, or of "
            f"another version of keras-pep: {error!r}."
        ) from error
    features = _features(directory, content.models, drawn)
    return replace(content, features=features)


def _facts(metrics: Mapping[str, Any]) -> dict[str, str]:
    rows = metrics["rows"]
    search = metrics["search"]
    return {
        "data": printable(metrics["dataset"]),
        "feature set": printable(metrics["features"]),
        "model": _MODELS.get(metrics["model"], printable(metrics["model"])),
        "embedding": f"{_whole(metrics['embedding_dim']):,} columns",
        "features": f"{_whole(metrics['feature_count']):,} in "
        f"{_whole(metrics['fields']):,} fields",
        "rows": ", ".join(f"{printable(n)} {_whole(rows[n]):,}" for n in rows),
        "search": printable(
            f"{search['method']}, {search['granularity']}, "
            f"{_whole(search['steps']):,} steps"
        ),
        "seed": printable(metrics["seed"]),
    }


def _models(metrics: Mapping[str, Any]) -> list[ModelContent]:
    entries = [("dense", metrics["dense"])] if metrics["dense"] else []
    entries += [("search", entry) for entry in metrics["budgets"]]
    entries += [
        (printable(entry["method"]), entry) for entry in metrics["baselines"]
    ]
    return [_model(kind, entry) for kind, entry in entries]


def _model(kind: str, entry: Mapping[str, Any]) -> ModelContent:
    dense = kind == "dense"
    step = entry.get("search_step")
    return ModelContent(
        kind=kind,
        target=None if dense else _whole(entry["target"]),
        kept=_whole(entry["embedding_parameters"]),
        total=_whole(entry["total_parameters"]),
        sparsity=0.0 if dense else _figure(entry["sparsity"]) or 0.0,
        bytes=_whole(entry["bytes"]),
        search_step=None if step is None else _whole(step),
        figures={
            split: {
                figure: _figure(entry[split][figure])
                for figure in ("auc", "logloss")
            }
            for split in SPLITS
        },
    )


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
        }
    return curves


def _features(
    directory: RunDirectory, models: Sequence[ModelContent], drawn: int
) -> FeatureContent | None:
    """What the tickets keep of each feature, if it is known what they are."""
    if not (directory.path / "vocabularies.json").exists():
        return None
    vocabularies = directory.read_vocabularies()
    count = sum(len(vocabulary) for vocabulary in vocabularies.values())
    counts = directory.read_counts()
    if counts is not None and counts.size != count:
        raise RunError(
            f"{directory.path}: counts.npy has {counts.size:,} features, "
            f"vocabularies.json {count:,}: they do not belong together."
        )
    sizes = {
        model.target: _sizes(directory, model, count)
        for model in models
        if model.kind == "search" and model.target is not None
    }
    return feature_content(vocabularies, counts, sizes, drawn)


def _sizes(
    directory: RunDirectory, model: ModelContent, features: int
) -> np.ndarray:
    """Kept entries of every feature: int64, `(features,)`."""
    assert model.target is not None
    ticket = directory.load_ticket(model.target)
    rows = [table.shape[0] for table in ticket.tables.values()]
    name = f"{directory.path}: the ticket of {model.target:,}"
    if not rows or set(rows) != {features}:
        raise RunError(
            f"{name} has tables of {', '.join(f'{n:,}' for n in rows)} rows, "
            f"expected the {features:,} features of vocabularies.json."
        )
    if ticket.embedding_parameters != model.kept:
        raise RunError(
            f"{name} keeps {ticket.embedding_parameters:,} parameters, "
            f"metrics.json says {model.kept:,}: they do not belong together."
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
