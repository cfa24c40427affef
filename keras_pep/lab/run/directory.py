"""The run directory: what a run leaves behind, every file whole."""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from keras_pep.data.fields import Vocabulary
from keras_pep.files import (
    NoLocksError,
    locked,
    remove_partials,
    remove_partials_unless_written,
    whole,
)
from keras_pep.lab.run.checked_json import (
    checked_json,
    checksum,
    parse_checked_json,
)
from keras_pep.lab.run.checkpoint import Saved
from keras_pep.lab.run.config import Config
from keras_pep.lab.run.model_file import load_model, save_model, stored_bytes
from keras_pep.lab.run.table import failed_parts
from keras_pep.pruning import Ticket

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.npz"
_LOCK = ".lock"
_REPORT = "report.html"
_EVENTS = "events.out.tfevents.*"  # as TensorBoard knows them
_PROGRESS = "progress.json"
_VOCABULARIES = "vocabularies.json"
_COUNTS = "counts.npy"
_KEPT = "kept.csv"
_FILES = (
    "metrics.json",
    "config.json",
    _VOCABULARIES,
    _COUNTS,
    _KEPT,
    _REPORT,
    "history.csv",
    "dense.keras",
    "budget-*.keras",
    "budget-*.ticket.npz",
    "uniform-*.keras",
    "mixed-dimension-*.keras",
    "magnitude-*.keras",
    "magnitude-*.ticket.npz",
    "paper-*.keras",
    "paper-*.ticket.npz",
    CHECKPOINT,
    _PROGRESS,
)


class RunError(RuntimeError):
    """A run cannot go on, or its directory is not one; says what to do."""


class RunDirectory:
    """Files of a run, by their names in the contract.

    Args:
        path: The directory.

    Attributes:
        begun: Whether this process has begun a run in it, or gone on with one,
            so that there is one to be resumed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.begun = False

    def create(self, *, force: bool = False) -> None:
        """Makes the directory.

        Args:
            force: Use it even if it has files already.

        Raises:
            RunError: If it has files already, or cannot be made.
        """
        if not force and self.path.exists() and any(self.path.iterdir()):
            raise RunError(
                f"{self.path} exists and is not empty: choose another "
                "--run-dir, or --force to overwrite its files."
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"{self.path} cannot be made: {error.strerror}."
            ) from error

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes out while files are written.

        Where nothing can, since the file system has no locks, log a warning.

        Raises:
            RunError: If one is at work there, there is no directory, or it
                cannot be written.
        """
        with contextlib.ExitStack() as stack:
            try:
                if not self.path.is_dir():
                    raise RunError(
                        f"{self.path} is not a run directory: there is no such "
                        "folder."
                    )
                with self._nobody_looks():
                    stack.enter_context(locked(self.path / _LOCK))
            except BlockingIOError as error:
                raise RunError(
                    f"{self.path} is in use by another process."
                ) from error
            except NoLocksError as error:
                logger.warning(
                    f"{self.path}: the file system cannot lock files "
                    f"({error.strerror}). Make sure that no other process "
                    "writes there."
                )
            except OSError as error:
                raise RunError(
                    f"{self.path} cannot be written: {error.strerror}. Allow "
                    "it, or use a copy elsewhere."
                ) from error
            yield

    def in_use(self) -> bool | None:
        """Tell whether a process is at work there; None if it is not known."""
        if not (self.path / _LOCK).exists():
            return False
        try:
            with self._nobody_looks(), locked(self.path / _LOCK):
                return False
        except BlockingIOError:
            return True
        except OSError:  # there are no locks, or nothing can be written
            return None

    def _nobody_looks(self) -> contextlib.AbstractContextManager[None]:
        """Wait for those who take the lock for a moment, to look at it.

        So whoever else has it works there.
        """
        return locked(self.path / f"{_LOCK}.look", wait=True)

    @property
    def finished(self) -> bool:
        """Whether a run has ended here."""
        return (self.path / "metrics.json").exists()

    def delete_outputs(self) -> None:
        """Removes the files of a run."""
        self.remove_partial_files()
        with self._changing():
            for pattern in (*_FILES, f"logs/*/{_EVENTS}"):
                for path in self.path.glob(pattern):
                    path.unlink()
        for folder in (*self.logs.glob("*/"), self.logs):
            with contextlib.suppress(OSError):  # there is something else in it
                folder.rmdir()

    @property
    def logs(self) -> Path:
        """The folder of TensorBoard's event files."""
        return self.path / "logs"

    @contextlib.contextmanager
    def _writing(self, name: str) -> Iterator[Path]:
        """A place to write a file to, which then appears whole.

        Raises:
            RunError: If it cannot be written.
        """
        try:
            with whole(self.path / name) as partial:
                yield partial
        except OSError as error:
            hint = (
                " Go on, when it can be, with keras-pep train --resume "
                f"{self.path}"
            )
            raise RunError(
                f"{self.path / name} cannot be written: "
                f"{error.strerror or error}.{hint if self.begun else ''}"
            ) from error

    def write_checkpoint(self, saved: Saved) -> None:
        """Writes `checkpoint.npz`."""
        with self._writing(CHECKPOINT) as path:
            replace(saved, run=self._identity()).write(path)

    def _identity(self) -> str:
        """Of the run: what its settings and data add up to."""
        return checksum(self.read_json("config.json"))

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes a JSON file, with a checksum of its own."""
        text = checked_json(content)
        with self._writing(name) as path:
            path.write_text(text, encoding="utf-8")

    def read_json(self, name: str) -> dict[str, Any]:
        """Reads what `write_json` wrote.

        Raises:
            RunError: If there is none, or it is damaged.
        """
        path = self.path / name
        try:
            return parse_checked_json(path.read_text("utf-8"))
        except FileNotFoundError as error:
            raise RunError(
                f"{path} not found: {self.path} is not a run directory of "
                "keras-pep train, or that run did not get so far."
            ) from error
        except ValueError as error:
            raise RunError(
                f"{path} is damaged, or of another version of keras-pep: "
                f"{error}"
            ) from error

    def read_config(self) -> tuple[Config, dict[str, Any]]:
        """Reads `config.json`.

        Returns:
            The settings of the run, and all that is in the file.

        Raises:
            RunError: If there is none, it is damaged, or another version of
                keras-pep has written it.
        """
        content = self.read_json("config.json")
        try:
            config = Config.of_run(content)
            content["environment"], content["data_fingerprint"]
            return config, content
        except KeyError as error:
            raise RunError(
                f"{self.path / 'config.json'} is of another version of "
                f"keras-pep: {error} is missing. Train again."
            ) from error

    def write_vocabularies(
        self, vocabularies: Mapping[str, Vocabulary]
    ) -> None:
        """Writes `vocabularies.json`: what raw values became of which ids."""
        content = {n: v.to_dict() for n, v in vocabularies.items()}
        self.write_json(_VOCABULARIES, {"fields": content})

    def read_vocabularies(self) -> dict[str, Vocabulary]:
        """Reads `vocabularies.json`.

        Raises:
            RunError: If there is none, or it is damaged.
        """
        if not (self.path / _VOCABULARIES).is_file():
            raise RunError(
                f"{self.path / _VOCABULARIES} not found: the run is of an "
                "earlier version of keras-pep. Train it again."
            )
        content = self.read_json(_VOCABULARIES)
        try:
            fields = content["fields"].items()
            return {name: Vocabulary.from_dict(v) for name, v in fields}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"{self.path / _VOCABULARIES} is damaged: {error!r}."
            ) from error

    def write_history(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes `history.csv`, one row per epoch and stage."""
        with self._writing("history.csv") as path:
            pd.DataFrame(rows).to_csv(path, index=False)

    def read_history(self) -> list[dict[str, Any]]:
        """The rows of `history.csv`.

        Raises:
            RunError: If there is none, or it is damaged.
        """
        path = self.path / "history.csv"
        try:
            rows = pd.read_csv(path)
        except FileNotFoundError as error:
            raise RunError(f"{path} not found.") from error
        except ValueError as error:
            raise RunError(f"{path} is damaged: {error}.") from error
        return [
            {str(key): value for key, value in row.items()}
            for row in rows.to_dict("records")
        ]

    def remove_partial_files(self) -> None:
        """Removes what a killed process has not finished."""
        with self._changing():
            for pattern in _FILES:
                if pattern != _REPORT:  # which is not ours alone
                    remove_partials(self.path, pattern)
            remove_partials_unless_written(self.path / _REPORT)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Tells in a line if files cannot be removed.

        Raises:
            RunError: If they cannot.
        """
        try:
            yield
        except OSError as error:
            raise RunError(
                f"{self.path} cannot be changed: {error.strerror or error}."
            ) from error

    def write_counts(self, counts: np.ndarray) -> None:
        """Writes `counts.npy`: how often training has each feature."""
        with self._writing(_COUNTS) as path:
            np.save(path, counts.astype(np.min_scalar_type(counts.max())))

    def read_counts(self) -> np.ndarray | None:
        """Reads `counts.npy`; None if the run has not written any.

        Returns:
            int64, `(features,)`.

        Raises:
            RunError: If it is damaged.
        """
        path = self.path / _COUNTS
        try:
            counts = np.load(path, allow_pickle=False)
        except FileNotFoundError:
            return None
        except Exception as error:  # NumPy lets through whatever it meets
            raise RunError(f"{path} is damaged: {error}.") from error
        if (
            not isinstance(counts, np.ndarray)
            or counts.ndim != 1
            or counts.dtype.kind not in "iu"
            or (counts < 0).any()
        ):
            raise RunError(f"{path} is damaged: expected a list of counts.")
        return counts.astype(np.int64)

    def write_kept(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes `kept.csv`: what searches kept at which step.

        A number whose standard error is not 0 was not counted, but estimated.
        """
        with self._writing(_KEPT) as path:
            pd.DataFrame(rows).to_csv(path, index=False)

    def read_kept(self) -> pd.DataFrame | None:
        """Reads `kept.csv`; None if the run has not written any.

        Returns:
            Columns `stage` (text), `step` and `embedding_parameters` (int64),
            `standard_error` (float64, NaN where an earlier version, which did
            not know it, has written the row).

        Raises:
            RunError: If it is damaged.
        """
        path = self.path / _KEPT
        types = {"stage": str, "step": int, "embedding_parameters": int}
        try:
            rows = pd.read_csv(path, usecols=[*types], keep_default_na=False)
            errors = pd.read_csv(path, usecols=lambda x: x == "standard_error")
            found = rows.astype(types).join(errors.astype(float))
            return found.reindex(columns=[*types, "standard_error"])
        except FileNotFoundError:
            return None
        except ValueError as error:  # what pandas raises is one
            raise RunError(f"{path} is damaged: {error}.") from error

    def save_model(self, name: str, model: keras.Model) -> int:
        """Writes `<name>.keras`, weights only, no optimizer.

        Returns:
            Bytes that the weights take in the file.
        """
        path = self.path / f"{name}.keras"
        with self._writing(path.name) as partial:
            save_model(model, partial)
        return stored_bytes(path)

    def load_model(self, name: str) -> keras.Model:
        """Reads `<name>.keras`.

        Raises:
            RunError: If there is none, or it is damaged.
        """
        path = self.path / f"{name}.keras"
        if not path.is_file():
            raise RunError(
                f"{path} not found: it was removed, or the run did not get so "
                "far."
            )
        try:
            return load_model(path)
        except ValueError as error:
            raise RunError(f"{path} cannot be loaded: {error}") from error

    def save_ticket(self, ticket: Ticket, method: str = "budget") -> None:
        """Writes `budget-<N>.ticket.npz`, or that of another method."""
        path = self._ticket(method, ticket.budget)
        with self._writing(path.name) as partial:
            ticket.save(partial)

    def load_ticket(self, budget: int, method: str = "budget") -> Ticket:
        """Reads a ticket.

        Raises:
            RunError: If there is none, or it is damaged.
        """
        path = self._ticket(method, budget)
        try:
            return Ticket.load(path)
        except FileNotFoundError as error:
            raise RunError(f"{path} not found.") from error
        except ValueError as error:
            raise RunError(str(error)) from error

    def _ticket(self, method: str, budget: int) -> Path:
        return self.path / f"{method}-{budget}.ticket.npz"

    def write_progress(
        self, results: Mapping[str, Any], history: Sequence[Mapping[str, Any]]
    ) -> None:
        """Keeps the results of finished stages until the run is finished."""
        content = {"results": results, "history": history}
        self.write_json(_PROGRESS, content)

    def read_progress(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Results and history, empty if no stage was finished.

        Raises:
            RunError: If the file is damaged.
        """
        if not (self.path / _PROGRESS).exists():
            return {}, []
        content = self.read_json(_PROGRESS)
        return content["results"], content["history"]

    def read_checkpoint(self) -> Saved | None:
        """The training that was going on, if there was one.

        Raises:
            RunError: If the file is damaged.
        """
        path = self.path / CHECKPOINT
        if not path.exists():
            return None
        try:
            saved = Saved.read(path)
            if saved.run != self._identity():
                raise ValueError("it is of another run")
        except ValueError as error:
            raise RunError(
                f"{path} is damaged, or of another version of keras-pep: "
                f"{error}. Remove it, and what was being trained begins anew."
            ) from error
        return saved

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Write `metrics.json`, and remove what only an unfinished run needs.

        What is needed to try again what has failed stays; and so do the notes
        of exports, if the run was finished before.
        """
        if self.finished:
            _keep_exports(self.read_json("metrics.json"), metrics)
        self.write_json("metrics.json", metrics)
        if not failed_parts(metrics):
            self.remove_checkpoint()

    def remove_checkpoint(self) -> None:
        """Removes what only an unfinished run needs."""
        with self._changing():
            for name in (CHECKPOINT, _PROGRESS):
                (self.path / name).unlink(missing_ok=True)


def _keep_exports(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Note of the models of a run where they were exported to."""
    exports = {
        entry.get("target"): entry["export"]
        for entry in (before["dense"], *before["budgets"])
        if entry and "export" in entry
    }
    for entry in (after["dense"], *after["budgets"]):
        if entry and entry.get("target") in exports:
            entry["export"] = exports[entry.get("target")]
