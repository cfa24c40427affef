"""The run directory: what a run leaves behind, every file whole."""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np
import pandas as pd

from keras_pep.data import Dataset
from keras_pep.data.fields import Vocabulary
from keras_pep.files import (
    NoLocksError,
    locked,
    remove_partials,
    remove_partials_unless_written,
    whole,
)
from keras_pep.lab.run import artifacts
from keras_pep.lab.run.artifacts import ARTIFACTS, Artifact
from keras_pep.lab.run.checked_json import checksum
from keras_pep.lab.run.checkpoint import Saved
from keras_pep.lab.run.config import Config
from keras_pep.lab.run.model_file import stored_bytes
from keras_pep.lab.run.table import failed_parts, models_in
from keras_pep.pruning import Ticket

T = TypeVar("T")
logger = logging.getLogger(__name__)

_CHECKPOINT = "checkpoint.npz"
_STAGE = ".stage.json"
_LOCK = ".lock"
_REPORT = "report.html"
_EVENTS = "logs/*/events.out.tfevents.*"  # as TensorBoard knows them
_FILES = [pattern for each in ARTIFACTS for pattern in each.patterns]


class RunError(RuntimeError):
    """A run cannot go on, or its directory is not one; says what to do."""


@dataclass
class Stage:
    """A stage that is done, as the run directory keeps it until the end.

    Attributes:
        number: How many stages were done before.
        result: Figures of it.
        history: A row for each epoch.
        kept: What a search kept at which step.
    """

    number: int = 0
    result: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    kept: list[dict[str, Any]] = field(default_factory=list)


class RunDirectory:
    """Files of a run, by their names in the contract.

    Every reading method raises a `RunError` if there is no such file or it is
    damaged, every writing method if it cannot be written.

    Args:
        path: The directory.
        writes: Whether this process writes it; of several workers, the chief
            does. Otherwise all that changes files does nothing.

    Attributes:
        begun: Whether this process has begun a run in it, or gone on with one,
            so that there is one to be resumed.
    """

    def __init__(self, path: str | Path, *, writes: bool = True) -> None:
        self.path = Path(path)
        self.writes = writes
        self.begun = False

    def create(self, *, force: bool = False) -> None:
        """Make the directory.

        Args:
            force: Use it even if it has files already.

        Raises:
            RunError: If it has files already, or cannot be made.
        """
        if not self.writes:
            return
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
                if self.writes and not self.path.is_dir():
                    raise RunError(
                        f"{self.path} is not a run directory: there is no such "
                        "folder."
                    )
                if self.writes:
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

    @property
    def logs(self) -> Path:
        """The folder of TensorBoard's event files."""
        return self.path / "logs"

    def delete_outputs(self) -> None:
        """Delete the files of a run."""
        self.remove_partial_files()
        self._remove(*_FILES, _REPORT, _EVENTS)
        for folder in (*self.logs.glob("*/"), self.logs) * self.writes:
            with contextlib.suppress(OSError):  # there is something else in it
                folder.rmdir()

    def remove_partial_files(self) -> None:
        """Remove what a killed process has not finished."""
        with self._changing():
            for pattern in _FILES * self.writes:
                remove_partials(self.path, pattern)
            if self.writes:  # the report is not ours alone
                remove_partials_unless_written(self.path / _REPORT)

    def remove_checkpoint(self) -> None:
        """Remove what only an unfinished run needs."""
        self._remove(_CHECKPOINT, f"*{_STAGE}")

    def remove_tried(self, size: str = "*") -> None:
        """Remove candidates of a size; of all, and what they were made of."""
        self._remove(f"try-*-{size}.keras", f"try-*-{size}.ticket.npz")
        if size == "*":
            self._remove("width-*.keras", "search*.ticket.npz")

    def _remove(self, *patterns: str) -> None:
        with self._changing():
            for pattern in patterns * self.writes:
                for path in self.path.glob(pattern):
                    path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Tell in a line if files cannot be removed."""
        try:
            yield
        except OSError as error:
            raise RunError(
                f"{self.path} cannot be changed: {error.strerror or error}."
            ) from error

    def read(self, kind: Artifact[T], name: str) -> T:
        """Read a file.

        Raises:
            RunError: If there is none, or it is damaged.
        """
        path = self.path / name
        try:
            return kind.read(path)
        except Exception as error:  # whatever zipfile, h5py and NumPy meet
            if not path.exists():
                raise RunError(f"{path} not found: {kind.missing}") from error
            if isinstance(error, OSError) and error.strerror:
                raise RunError(
                    f"{path} cannot be read: {error.strerror}."
                ) from error
            what = str(error) if isinstance(error, ValueError) else ""
            raise RunError(
                f"{path} is damaged, or of another version of keras-pep: "
                f"{(what or repr(error)).rstrip('.')}.{kind.damaged}"
            ) from error

    def write(self, kind: Artifact[Any], name: str, content: Any) -> None:
        """Write a file, which appears whole.

        Raises:
            RunError: If it cannot be written.
        """
        if not self.writes:
            return
        try:
            with whole(self.path / name) as partial:
                kind.write(partial, content)
        except OSError as error:
            hint = (
                " Go on, when it can be, with keras-pep train --resume "
                f"{self.path}"
            )
            raise RunError(
                f"{self.path / name} cannot be written: "
                f"{error.strerror or error}.{hint if self.begun else ''}"
            ) from error

    def _read_if_there(self, kind: Artifact[T]) -> T | None:
        (name,) = kind.patterns
        there = (self.path / name).exists()
        return self.read(kind, name) if there else None

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON file."""
        return self.read(artifacts.JSON, name)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file, with a checksum of its own."""
        self.write(artifacts.JSON, name, content)

    def read_config(self) -> tuple[Config, dict[str, Any]]:
        """Read `config.json`.

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

    def check_data(self, dataset: Dataset) -> None:
        """Make sure that data are those of the run.

        Raises:
            RunError: If they are not.
        """
        known = self.read_json("config.json")["data_fingerprint"]
        if dataset.fingerprint() != known:
            raise RunError(
                f"The data are not those of {self.path}, or another version of "
                "keras-pep has read them in another way: their fingerprints "
                "differ. Name the same data, as with --data-dir, or train "
                "again."
            )

    def read_vocabularies(self) -> dict[str, Vocabulary]:
        """Read `vocabularies.json`: what raw values became of which ids."""
        return self.read(artifacts.VOCABULARIES, "vocabularies.json")

    def write_vocabularies(self, fields: Mapping[str, Vocabulary]) -> None:
        """Write `vocabularies.json`."""
        self.write(artifacts.VOCABULARIES, "vocabularies.json", fields)

    def read_counts(self) -> np.ndarray | None:
        """Read `counts.npy`: how often training has each feature.

        Returns:
            int64, `(features,)`; None if the run has not written any.
        """
        return self._read_if_there(artifacts.COUNTS)

    def write_counts(self, counts: np.ndarray) -> None:
        """Write `counts.npy`."""
        self.write(artifacts.COUNTS, "counts.npy", counts)

    def read_seen(self) -> Path | None:
        """Find `seen.parquet`: how often training has seen each value, of late.

        Returns:
            None if the run has not written any.
        """
        return self._read_if_there(artifacts.SEEN)

    def read_history(self) -> list[dict[str, Any]]:
        """Read `history.csv`, one row per epoch and stage."""
        return self.read(artifacts.HISTORY, "history.csv")

    def write_history(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write `history.csv`."""
        self.write(artifacts.HISTORY, "history.csv", rows)

    def read_kept(self) -> pd.DataFrame | None:
        """Read `kept.csv`: what searches kept at which step.

        Returns:
            Columns `stage` (text), `step` and `embedding_parameters` (int64),
            `standard_error` (float64: 0 where it was counted, NaN where an
            earlier version, which did not know it, has written the row); None
            if the run has not written any.
        """
        return self._read_if_there(artifacts.KEPT)

    def write_kept(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write `kept.csv`."""
        self.write(artifacts.KEPT, "kept.csv", rows)

    def load_model(self, name: str) -> keras.Model:
        """Read `<name>.keras`."""
        return self.read(artifacts.MODEL, f"{name}.keras")

    def save_model(self, name: str, model: keras.Model) -> int:
        """Write `<name>.keras`, weights only, no optimizer.

        Returns:
            Bytes that the weights take in the file; 0 if it is not written.
        """
        self.write(artifacts.MODEL, f"{name}.keras", model)
        return stored_bytes(self.path / f"{name}.keras") if self.writes else 0

    def load_ticket(self, budget: int, method: str = "budget") -> Ticket:
        """Read `budget-<N>.ticket.npz`, or that of another method."""
        name = f"{method}-{budget}.ticket.npz"
        return self.read(artifacts.TICKET, name)

    def save_ticket(self, ticket: Ticket, method: str = "budget") -> None:
        """Write `budget-<N>.ticket.npz`, or that of another method."""
        name = f"{method}-{ticket.budget}.ticket.npz"
        self.write(artifacts.TICKET, name, ticket)

    def read_stages(self) -> dict[str, Stage]:
        """Read the stages that are done, in the order in which they were.

        Raises:
            RunError: If a file is damaged.
        """
        found = {}
        for path in self.path.glob(f"*{_STAGE}"):
            content = self.read_json(path.name)
            try:
                found[path.name.removesuffix(_STAGE)] = Stage(**content)
            except TypeError as error:
                raise RunError(f"{path} is damaged: {error}.") from error
        return dict(sorted(found.items(), key=lambda item: item[1].number))

    def write_stage(self, name: str, stage: Stage) -> None:
        """Write `<name>.stage.json`, by which it is known to be done."""
        self.write_json(f"{name}{_STAGE}", asdict(stage))

    def read_checkpoint(self) -> Saved | None:
        """Read the training that was going on, if there was one.

        Raises:
            RunError: If the file is damaged, or of another run.
        """
        saved = self._read_if_there(artifacts.CHECKPOINT)
        if saved is not None and saved.run != self._identity():
            raise RunError(
                f"{self.path / _CHECKPOINT} is damaged: it is of another run."
                f"{artifacts.CHECKPOINT.damaged}"
            )
        return saved

    def write_checkpoint(self, saved: Saved) -> None:
        """Write `checkpoint.npz`."""
        if self.writes:
            saved = replace(saved, run=self._identity())
        self.write(artifacts.CHECKPOINT, _CHECKPOINT, saved)

    def _identity(self) -> str:
        """A checksum of the run: of its settings and data."""
        return checksum(self.read_json("config.json"))

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Write `metrics.json`, and remove what only an unfinished run needs.

        What is needed to try again what has failed stays; and so do the notes
        of exports, if the run was finished before.
        """
        if self.writes and self.finished:
            _keep_exports(self.read_json("metrics.json"), metrics)
        self.write_json("metrics.json", metrics)
        if not failed_parts(metrics):
            self.remove_checkpoint()
            self.remove_tried()


def _keep_exports(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Note of the models of a run where they were exported to."""
    known = models_in(before)
    for name, entry in models_in(after).items():
        if "export" in known.get(name, {}):
            entry["export"] = known[name]["export"]
