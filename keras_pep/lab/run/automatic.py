"""A run without settings: a tuned dense model, sizes, and what to take."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from keras_pep.lab.presets import preset
from keras_pep.lab.run.candidates import Candidates
from keras_pep.lab.run.results import figures, no_single_search, results
from keras_pep.lab.run.runner import Run
from keras_pep.lab.run.searches import Searches
from keras_pep.lab.run.size import Size
from keras_pep.lab.run.teachers import learn_from
from keras_pep.lab.run.tuning import Tuning, tune
from keras_pep.pruning.sizes import number_of_bytes
from keras_pep.serving import served_model

logger = logging.getLogger(__name__)


def search_for_best(run: Run) -> dict[str, Any]:
    """Tune the dense model, and take the best small one of each size.

    Without a size that is asked for, those of half the dense table's bytes, a
    quarter and so on, as long as one is as good as the dense model, and half of
    it is a part of the model that is worth saving.

    Returns:
        Of `metrics.json`, what this finds.
    """
    return take_best(run, tune(run), _sizes(run) or None)


def take_best(
    run: Run,
    tuning: Tuning,
    sizes: list[Size] | None,
    epochs: int | None = None,
    methods: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Take the best small model of each size, from full tables.

    Args:
        run: The run.
        tuning: How full tables were trained.
        sizes: Sizes, falling; see `search_for_best`.
        epochs: How long small tables are trained; by default as the best of
            the full ones.
        methods: What is tried; by default what suits the effort.

    Returns:
        Of `metrics.json`, what this finds.
    """
    best = tuning.winner
    run.tuned(best.columns, best.l2, best.rate, best.epochs)
    dense = run.do("dense", lambda: _dense(run, tuning))
    best = learn_from(run, tuning)
    best = replace(best, epochs=epochs or best.epochs)
    run.tuned(best.columns, best.l2, best.rate, best.epochs)
    asked, given = bool(sizes), sizes is not None
    whole = dense["exported_bytes"]["int8"]["table"]
    if sizes is None:
        parts = preset("parts_of_dense")
        sizes = [Size(bytes=whole // part) for part in parts]
    sizes = [size.of(run.dataset) for size in sizes]
    searches = Searches(run, best, tuple(sizes))
    budgets: list[dict[str, Any]] = []
    tried, too_small = [], []
    while sizes:
        size = sizes.pop(0)
        taken = [other["target"] for other in budgets]
        entry = Candidates(
            *(run, tuning, best, size, searches, taken, methods)
        ).best()
        failed = f"budget-{size.name}" in run.failures
        if not (entry or failed or size.row_bytes) and size.bytes is not None:
            # Rows of what was trained need scales of their own.
            sizes.insert(0, replace(size, row_bytes=2))
            continue
        tried.append(size)
        if entry is None:
            too_small.append(size)
            continue
        if entry["target"] in taken:
            logger.info(f"{size.most:,}: the model of {entry['target']:,}")
        else:
            budgets.append(entry)
            last = not (given or sizes)
            if last and _as_good(run, entry, dense) and _is_large(entry):
                sizes.append(replace(size, bytes=size.most // 2))
    run.sizes = tried
    failed_sizes = {
        str(size.most): "; ".join(reasons)
        for size in too_small
        if (reasons := _reasons(run, size))
    }
    return {
        "dense": dense,
        "search": no_single_search(run, "auto"),
        "tuning": [*tuning.tried.values()],
        "teachers": run.stages["teachers"].result,
        "budgets": budgets,
        "budgets_not_reached": [
            size.most
            for size in too_small
            if given and str(size.most) not in failed_sizes
        ],
        "budgets_failed": failed_sizes,
        "candidates_failed": {
            name: reason
            for name, reason in run.failures.items()
            if name.startswith(("dense-", "search", "try-"))
        },
        "choice": choice(run.config.tolerance, dense, budgets, small=asked),
    }


def _dense(run: Run, tuning: Tuning) -> dict[str, Any]:
    """The best of the dense models, as the one of the run."""
    best = tuning.winner
    model = run.directory.load_model(f"width-{best.columns}")
    history = run.stages[tuning.tried[best]["stage"]].history
    return {
        **results(run, "dense", model, run.parameters, history),
        "int8": figures(run, served_model(model, "int8")),
    }


def _reasons(run: Run, size: Size) -> list[str]:
    """Why there is no model of a size, if something has failed."""
    names = (f"-{size.name}", f"-{replace(size, row_bytes=0).name}")
    return [why for name, why in run.failures.items() if name.endswith(names)]


def _sizes(run: Run) -> list[Size]:
    """Sizes that are asked for, falling."""
    config = run.config
    entries = {
        *config.budget,
        *(
            max(1, round((1 - share) * run.parameters))
            for share in config.sparsity
        ),
    }
    asked = [Size(entries=each) for each in entries]
    asked += [Size(bytes=number_of_bytes(each)) for each in config.max_bytes]
    rows = run.dataset.feature_count
    return sorted({*asked}, key=lambda size: -size.per_row(rows))


def _as_good(
    run: Run, entry: Mapping[str, Any], dense: Mapping[str, Any]
) -> bool:
    least = _validation_auc(dense) - run.config.tolerance
    return _validation_auc(entry) >= least


def _is_large(entry: Mapping[str, Any]) -> bool:
    """Whether half a table is a part of the model that is worth saving."""
    size = entry["exported_bytes"]["int8"]
    return bool(size["table"] / 2 >= preset("worth_saving") * size["model"])


def _validation_auc(entry: Mapping[str, Any]) -> float:
    return float(entry["int8"]["validation"]["auc"])


def choice(
    tolerance: float,
    dense: Mapping[str, Any],
    budgets: list[dict[str, Any]],
    *,
    small: bool,
) -> dict[str, Any] | None:
    """Choose the smallest model that is as good as the dense one.

    Args:
        tolerance: How much lower its validation AUC may be.
        dense: Figures of the dense model.
        budgets: Figures of the others.
        small: Whether it is to be one of the others, the best of them if none
            is as good.

    Returns:
        Its `target`, None of the dense model, and `method`; None if there is
        none.
    """
    models = budgets if small else [*budgets, dense]
    if not models:
        return None
    best = max(map(_validation_auc, models))
    least = min(_validation_auc(dense) - tolerance, best)
    taken = min(
        (e for e in models if _validation_auc(e) >= least),
        key=lambda e: e["exported_bytes"]["int8"]["table"],
    )
    return {
        "target": taken.get("target"),
        "method": taken.get("method", "dense"),
        "tolerance": tolerance,
    }
