"""Figures of models as text: for the terminal and for the tables of a page."""

from collections.abc import Sequence

from keras_pep.lab.report.content import ModelContent, RunContent, StageContent
from keras_pep.lab.text import UNKNOWN, aligned, figure


def comparison_table(runs: Sequence[RunContent]) -> str:
    """All models of all runs, one line each, as a person reads them."""
    rows: list[tuple[str, ...]] = [
        (
            *("run", "model", "kept", "sparsity", "test AUC", "against dense"),
            *("log-loss", "total", "bytes", "int8"),
        )
    ]
    failed = []
    for run in runs:
        rows += [(run.name, *model_figures(run, each)) for each in run.models]
        failed += [
            f"{run.name}: {n} failed: {w}" for n, w in run.failed.items()
        ]
    return "\n".join((aligned(rows), *failed))


STAGE_TITLES = (
    *("stage", "epochs", "best", "validation AUC", "log-loss"),
    *("kept", "minutes"),
)


def stages_table(run: RunContent) -> str:
    """How the trainings of a run went, one line each."""
    return aligned([STAGE_TITLES, *map(stage_figures, run.stages)])


def stage_figures(stage: StageContent) -> tuple[str, ...]:
    """Name and epochs, the best of them and its figures, kept, minutes."""
    known = [n for n, auc in enumerate(stage.auc) if auc is not None]
    best = max(known, key=lambda n: stage.auc[n] or 0.0, default=None)
    return (
        stage.name,
        f"{len(stage.epochs):,}",
        *(
            (UNKNOWN,) * 3
            if best is None
            else (
                f"{stage.epochs[best]:,}",
                figure(stage.auc[best]),
                figure(stage.logloss[best]),
            )
        ),
        f"{stage.kept[-1]:,}",
        f"{sum(stage.seconds) / 60:.1f}",
    )


def model_figures(run: RunContent, model: ModelContent) -> tuple[str, ...]:
    """The figures of a model, in the order of the titles of the table.

    Behind the AUC is what it has more than that of the dense model.
    """
    figures = model.figures["test"]
    return (
        model.name,
        f"{model.kept:,}",
        f"{model.sparsity:.1%}",
        figure(figures["auc"]),
        _difference(run, model),
        figure(figures["logloss"]),
        f"{model.total:,}",
        f"{model.bytes:,}",
        UNKNOWN if model.exported is None else f"{model.exported:,}",
    )


def _difference(run: RunContent, model: ModelContent) -> str:
    """AUC less that of the dense model; nothing of the dense one itself."""
    if run.dense is None or run.dense is model:
        return ""
    auc, dense = (m.figures["test"]["auc"] for m in (model, run.dense))
    if auc is None or dense is None:
        return UNKNOWN
    return f"{auc - dense:+.4f}"


def size_of(run: RunContent, model: ModelContent) -> str:
    """Its bytes, and how many times smaller than the dense model that is."""
    size = _readable(model.bytes)
    if run.dense is None or run.dense is model or not model.bytes:
        return size
    times = run.dense.bytes / model.bytes
    return f"{size}, {times:.1f}\N{MULTIPLICATION SIGN} smaller"


def _readable(number: int) -> str:
    """Bytes in the unit in which they are easy to read."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:  # more have four digits when they are rounded
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"
