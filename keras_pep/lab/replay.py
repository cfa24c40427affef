"""`keras-pep replay`: a data set in time order, as if it came day by day.

After each period every policy has a model, which scores the rows of the next.
"""

import contextlib
import datetime
import json
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from keras_pep.data import DataError, movielens_files
from keras_pep.data import rows as raw
from keras_pep.data.checked import (
    A_WEIGHT,
    read_weights,
    torn_rows,
    wrong_rows,
)
from keras_pep.data.labels import expected_labels, read_labels
from keras_pep.data.rows import Malformed
from keras_pep.data.splits import rule_of
from keras_pep.data.times import FORMS, instants
from keras_pep.files import whole
from keras_pep.lab.run import Config, RunDirectory, scorer_of_run, train
from keras_pep.lab.run.checked_json import finite
from keras_pep.lab.run.models import chosen_model
from keras_pep.lab.text import aligned, figure
from keras_pep.metrics import auc

logger = logging.getLogger(__name__)

NEVER, NOTHING, CONTINUED = POLICIES = (
    "never retrained",
    "from nothing",
    "continued",
)
PERIODS = {
    "hour": "%Y-%m-%dT%H",
    "day": "%Y-%m-%d",
    "week": "%G-W%V",
    "month": "%Y-%m",
}
_LARGEST_SECOND = 1e11  # since 1970; above are milliseconds, and so on
_FIRST_SECOND = -62e9


@dataclass(frozen=True)
class Scored:
    """How a model has scored the rows of the period after its last one.

    Attributes:
        seed: Of all its trainings.
        policy: One of `POLICIES`.
        period: The last that it has seen, or could have seen.
        scored: The period that it has scored.
        auc: On the rows of that one.
        seconds: That its training took; 0 where there was none.
        bytes: Of its table as exported in int8.
    """

    seed: int
    policy: str
    period: str
    scored: str
    auc: float
    seconds: float
    bytes: int


def replay(
    config: Config,
    column: str,
    by: str,
    folder: Path,
    *,
    first: int = 1,
    periods: int | None = None,
    window: int | None = None,
    seeds: int = 1,
) -> list[Scored]:
    """Play a data set in time order, by every policy; log each training.

    Args:
        config: How a model is trained from nothing.
        column: The column of times, with its format in brackets if need be.
        by: A key of `PERIODS`.
        folder: Where runs and `replay.json` are left; must not have files.
        first: How many periods the first model is trained on.
        periods: How many are scored after those; by default all.
        window: How many periods a continued model is trained on; by default all
            so far.
        seeds: How many times to play.

    Raises:
        DataError: If the data are not as described, or have too few periods.
        RunError: If the folder has files.
    """
    RunDirectory(folder).create()
    config, column = _of_files(config, column, folder)
    parts, config = _divide(config, column, by, folder / "parts")
    names = [*parts][: None if periods is None else first + periods]
    if len(names) <= first:
        raise DataError(
            f"{config.dataset}: found {len(names)} {by}s, expected at least "
            f"{first + 1}: one more than the first model is trained on."
        )
    found: list[Scored] = []
    for seed in range(config.seed, config.seed + seeds):
        started = replace(config, seed=seed)
        runs = folder / f"seed-{seed}"
        _, paths = zip(*parts.items(), strict=True)
        run, took = _train(started, paths[:first], runs / "first")
        at, seconds = (
            dict.fromkeys(POLICIES, run),
            dict.fromkeys(POLICIES, took),
        )
        for last in range(first, len(names)):
            for policy in POLICIES:
                entry = chosen_model(
                    at[policy], at[policy].read_json("metrics.json")
                )[1]
                found.append(
                    Scored(
                        *(seed, policy, names[last - 1], names[last]),
                        _auc(
                            *(at[policy], paths[last]),
                            *(str(config.label), config.weight),
                        ),
                        round(seconds[policy], 2),
                        entry["exported_bytes"]["int8"]["table"],
                    )
                )
            _write(folder, config, by, found)
            logger.info(_line(found[-len(POLICIES) :]))
            if last == len(names) - 1:
                break
            now, seconds[NEVER] = names[last], 0.0
            days = paths[: last + 1][-(window or last + 1) :]
            on = replace(
                started,
                search="auto",
                continued=str(at[CONTINUED].path.resolve()),
                # Counts of all these rows are those of the last ones alone.
                decay=config.decay if len(days) == 1 else 0.0,
            )
            for policy, settings, rows in (
                (NOTHING, started, paths[: last + 1]),
                (CONTINUED, on, days),
            ):
                to = runs / f"{policy.replace(' ', '-')}-{now}"
                try:
                    at[policy], seconds[policy] = _train(settings, rows, to)
                except DataError as error:  # such as rows of one class
                    seconds[policy] = 0.0
                    logger.warning(
                        f"{now}, seed {seed}: {policy} keeps its last model: "
                        f"{error}"
                    )
    return found


def replay_table(found: Sequence[Scored]) -> str:
    """AUC of each policy in each period, and means below, as text."""
    scored = pd.DataFrame(map(asdict, found))
    # A period of one class has no AUC, and stays.
    by_period = scored.pivot_table(
        "auc", "scored", "policy", sort=False, dropna=False
    )
    # The first model is the same for all.
    later = scored[scored["scored"] != by_period.index[0]]
    seconds = later.groupby("policy")["seconds"].mean().reindex(POLICIES)
    largest = scored.groupby("policy")["bytes"].max()
    rows = [
        *by_period.map(figure)[[*POLICIES]].itertuples(),
        ("mean AUC", *(figure(by_period[p].mean()) for p in POLICIES)),
        ("seconds a training", *(figure(seconds[p], 1) for p in POLICIES)),
        ("largest table, bytes", *(f"{largest[p]:,}" for p in POLICIES)),
    ]
    return aligned([("rows of", *POLICIES), *rows])


def _line(scored: Sequence[Scored]) -> str:
    aucs = ", ".join(
        f"{each.policy} {figure(each.auc)} ({each.seconds:.0f} s)"
        for each in scored
    )
    return f"{scored[0].scored}, seed {scored[0].seed}: AUC {aucs}"


def _write(
    folder: Path, config: Config, by: str, found: Sequence[Scored]
) -> None:
    content = {
        "by": by,
        "settings": config.to_dict(),
        "scored": [asdict(each) for each in found],
    }
    with whole(folder / "replay.json") as partial:
        partial.write_text(
            json.dumps(finite(content), indent=1) + "\n", "utf-8"
        )


def _train(
    config: Config, parts: Sequence[Path], folder: Path
) -> tuple[RunDirectory, float]:
    """Train on the rows of some periods: the run, and the seconds it took."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    keras.backend.clear_session()
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        rows = Path(name, "rows")
        rows.mkdir()
        for part in parts:
            os.link(part, rows / part.name)
        start = time.perf_counter()
        directory = RunDirectory(folder)
        logging.disable(logging.INFO)
        try:
            train(
                replace(config, dataset=str(rows), cache_dir=f"{name}/cache"),
                directory,
            )
        finally:
            logging.disable(logging.NOTSET)
        return directory, time.perf_counter() - start


def _auc(
    run: RunDirectory, part: Path, label: str, weight: str | None
) -> float:
    """Score the rows of a period."""
    score, columns = scorer_of_run(run)
    files, more = raw.files_of(part), [label, *([weight] if weight else [])]
    labels, scores, weights = [], [], []
    for block in raw.blocks(files, (*columns, *more), Malformed()):
        of = block.columns[label]
        labels.append(read_labels(of.values)[0][of.codes])
        scores.append(score(block))
        if weight:
            weights.append(read_weights(block.columns[weight])[0])
    return auc(
        *(np.concatenate(labels), np.concatenate(scores)),
        np.concatenate(weights) if weight else None,
    )


def _divide(
    config: Config, column: str, by: str, folder: Path
) -> tuple[dict[str, Path], Config]:
    """Write the rows of each period to a file of its own.

    Returns:
        The files by the names of periods, in order; and the settings, by which
        the time is no field unless it was named as one.
    """
    files = raw.files_of(Path(config.dataset), config.delimiter)
    columns = raw.header(files)
    label = config.label or ""
    rule = rule_of(f"time:{column}", columns, label, ())
    needed = (label, rule.column, *filter(None, [config.weight]))
    missing = [name for name in needed if name not in columns]
    if missing:
        raise raw.no_column(files, missing, columns)
    fields = config.fields or tuple(
        name
        for name in columns
        if name not in (label, rule.column, config.weight)
    )
    a_time = (
        f"a time as {rule.time_format} has it"
        if rule.time_format
        else f"a time: {FORMS}; for others a format, as in --time "
        f"'{rule.column}(%m/%d/%Y %H:%M)'"
    )
    folder.mkdir(parents=True)
    writers: dict[str, Any] = {}
    rows, malformed = 0, Malformed()
    with contextlib.ExitStack() as stack:
        for block in raw.blocks(files, columns, malformed):
            table = pa.table(
                {
                    name: each.values.take(pa.array(each.codes))  # noqa: PD011
                    for name, each in block.columns.items()
                }
            )
            when, of = block.columns[rule.column], block.columns[label]
            names = _periods(when.values, rule.time_format, by)
            positive, bad = read_labels(of.values, config.positive or "")
            wrong = torn_rows(block, malformed)
            wrong |= wrong_rows(
                block, rule.column, names == "", a_time, malformed
            )
            if bad.any():
                a_label = expected_labels(of, config.positive or "", own=True)
                wrong |= wrong_rows(block, label, bad, a_label, malformed)
            if name := config.weight:
                _, bad = read_weights(block.columns[name])
                wrong |= wrong_rows(block, name, bad, A_WEIGHT, malformed)
            malformed.rows += int(wrong.sum())
            rows += int((~wrong).sum())
            names = names[when.codes]
            place = table.schema.get_field_index(label)
            labels = pa.array(positive[of.codes])
            table = table.set_column(place, label, labels)
            for name in np.unique(names[~wrong]):
                if name not in writers:
                    path = folder / f"{name}.parquet"
                    writer = pa.parquet.ParquetWriter(path, table.schema)
                    writers[name] = stack.enter_context(writer)
                these = pa.array(~wrong & (names == name))
                writers[name].write_table(table.filter(these))
    malformed.check(rows, config.max_bad_rows)
    if malformed.first:
        logger.info(
            f"left out: {malformed.rows:,} malformed rows, the first: "
            f"{malformed.first()}"
        )
    parts = {name: folder / f"{name}.parquet" for name in sorted(writers)}
    return parts, replace(config, fields=fields, delimiter=None, positive=None)


def _periods(texts: Any, time_format: str, by: str) -> np.ndarray:
    """Name the period of each time; `""` of what is none."""
    found, _ = instants(texts, time_format)
    while (large := np.abs(found) > _LARGEST_SECOND).any():
        found[large] /= 1000  # milliseconds, microseconds or nanoseconds
    found[found < _FIRST_SECOND] = np.nan  # before the year 6
    hours, places = np.unique(found // 3600, return_inverse=True)
    hour = datetime.timedelta(hours=1)
    names = [
        ""
        if np.isnan(each)
        else f"{datetime.datetime(1970, 1, 1) + each * hour:{PERIODS[by]}}"
        for each in hours
    ]
    return np.array(names, dtype=object)[places]


def _of_files(config: Config, column: str, folder: Path) -> tuple[Config, str]:
    """Write MovieLens as a file of one's own; leave others as they are."""
    if not config.dataset.startswith("movielens"):
        return config, column
    name = "movielens-1m" if config.dataset == "movielens" else config.dataset
    tables = movielens_files.read(
        name, Path(str(config.data_dir)), config.max_bad_rows
    )
    ratings = tables.ratings[tables.ratings["rating"] != 3]
    rows = ratings.merge(tables.users, on="user_id").merge(
        tables.movies, on="movie_id"
    )
    rows["positive"] = (rows["rating"] > 3).astype(int)
    path = folder / f"{name}.parquet"
    rows.drop(columns="rating").to_parquet(path, index=False)
    return (
        replace(
            config,
            dataset=str(path),
            data_dir=None,
            features=None,
            label="positive",
            fields=tuple(
                f"{each}:{'list' if each == 'genres' else 'category'}"
                for each in rows.columns
                if each not in ("rating", "timestamp", "positive")
            ),
        ),
        "timestamp",
    )
