"""The files of a run: their names, and how each is read and written."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd
import pyarrow.parquet

from keras_pep.data.fields import Vocabulary
from keras_pep.lab.run.checked_json import checked_json, parse_checked_json
from keras_pep.lab.run.checkpoint import Saved
from keras_pep.lab.run.model_file import load_model, save_model
from keras_pep.pruning import Ticket

T = TypeVar("T")


@dataclass(frozen=True)
class Artifact(Generic[T]):
    """Files of a kind.

    Attributes:
        patterns: Their names.
        read: Reads one; any error but one of the system means that it is
            damaged.
        write: Writes one.
        missing: What to make of it if there is none.
        damaged: What to do if it is damaged.
    """

    patterns: Sequence[str]
    read: Callable[[Path], T]
    write: Callable[[Path, T], None]
    missing: str = "it was removed, or the run did not get so far."
    damaged: str = ""


def _read_json(path: Path) -> dict[str, Any]:
    return parse_checked_json(path.read_text("utf-8"))


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(checked_json(content), encoding="utf-8")


def _read_vocabularies(path: Path) -> dict[str, Vocabulary]:
    fields = _read_json(path)["fields"].items()
    return {name: Vocabulary.from_dict(content) for name, content in fields}


def _write_vocabularies(path: Path, fields: Mapping[str, Vocabulary]) -> None:
    content = {name: each.to_dict() for name, each in fields.items()}
    _write_json(path, {"fields": content})


def _read_counts(path: Path) -> np.ndarray:
    counts = np.load(path, allow_pickle=False)
    if (
        not isinstance(counts, np.ndarray)
        or counts.ndim != 1
        or counts.dtype.kind not in "iu"
        or (counts < 0).any()
    ):
        raise ValueError("expected a list of counts")
    return counts.astype(np.int64)


def _write_counts(path: Path, counts: np.ndarray) -> None:
    np.save(path, counts.astype(np.min_scalar_type(counts.max())))


def _check_seen(path: Path) -> Path:
    pyarrow.parquet.read_schema(path)
    return path


def _copy_seen(path: Path, prepared: Path) -> None:
    shutil.copyfile(prepared, path)


def _read_history(path: Path) -> list[dict[str, Any]]:
    rows = pd.read_csv(path).to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in rows]


def _read_kept(path: Path) -> pd.DataFrame:
    types = {"stage": str, "step": int, "embedding_parameters": int}
    rows = pd.read_csv(path, usecols=[*types], keep_default_na=False)
    errors = pd.read_csv(path, usecols=lambda x: x == "standard_error")
    found = rows.astype(types).join(errors.astype(float))
    return found.reindex(columns=[*types, "standard_error"])


def _write_rows(path: Path, rows: Any) -> None:
    pd.DataFrame(rows).to_csv(path, index=False)


JSON = Artifact(
    ("metrics.json", "config.json", "*.stage.json"),
    _read_json,
    _write_json,
    "this is not a run directory of keras-pep train, or that run did not get "
    "so far.",
)
VOCABULARIES = Artifact(
    ("vocabularies.json",),
    _read_vocabularies,
    _write_vocabularies,
    "the run is of an earlier version of keras-pep. Train it again.",
)
COUNTS = Artifact(("counts.npy",), _read_counts, _write_counts)
SEEN: Artifact[Any] = Artifact(("seen.parquet",), _check_seen, _copy_seen)
HISTORY = Artifact(("history.csv",), _read_history, _write_rows)
KEPT = Artifact(("kept.csv",), _read_kept, _write_rows)
MODEL = Artifact(
    (
        *("dense.keras", "budget-*.keras", "uniform-*.keras"),
        *("mixed-dimension-*.keras", "magnitude-*.keras", "paper-*.keras"),
        *("width-*.keras", "try-*.keras"),  # while a run goes on
    ),
    load_model,
    lambda path, model: save_model(model, path),
)
TICKET = Artifact(
    tuple(
        f"{kind}*.ticket.npz"
        for kind in ("budget-", "magnitude-", "paper-", "search", "try-")
    ),
    Ticket.load,
    lambda path, ticket: ticket.save(path),
)
CHECKPOINT = Artifact(
    ("checkpoint.npz",),
    Saved.read,
    lambda path, saved: saved.write(path),
    damaged=" Remove it, and what was being trained begins anew.",
)
ARTIFACTS = (
    *(JSON, VOCABULARIES, COUNTS, SEEN, KEPT, HISTORY, MODEL, TICKET),
    CHECKPOINT,
)
