"""`keras-pep train`: a run begun, or taken up again."""

import contextlib
import importlib
import importlib.metadata
import logging
import platform
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import keras

from keras_pep.lab.run.artifacts import SEEN
from keras_pep.lab.run.config import Config
from keras_pep.lab.run.directory import RunDirectory, RunError
from keras_pep.lab.run.runner import Run
from keras_pep.lab.run.stages import do_all
from keras_pep.lab.run.table import failed_parts
from keras_pep.lab.run.workers import Workers

logger = logging.getLogger(__name__)


def train(
    config: Config,
    directory: RunDirectory,
    *,
    force: bool = False,
    command: str | None = None,
) -> dict[str, Any]:
    """Do a whole run and write its directory.

    Files are written as soon as they are known; nothing is, before the data
    are loaded and the budgets found to be possible. Progress is logged, by the
    logger `keras_pep`. When the search, a retraining or a baseline fails, an
    error is logged: the others are done, `metrics.json` says why it is missing,
    and `resume` tries it again.

    Args:
        config: What to do.
        directory: Where to leave the results.
        force: Whether the directory may have files already.
        command: The command line that asks for it, to be noted.

    Returns:
        The content of `metrics.json`.

    Raises:
        DataError: If the data are missing or malformed.
        ValueError: If a budget is not possible, or training of the dense model
            diverges.
        RunError: If the directory has files, is in use or cannot be written.
        WorkerLostError: If another worker has ended.
        WorkersDisagreeError: If workers have other data, or other results.
    """
    with _workers(config, directory) as (workers, files):
        run = _run(config, files, workers)
        for note in run.dataset.notes:
            logger.info(note)
        environment = _environment()
        _agree(run, environment)
        files.create(force=force)
        with files.lock():
            # So that no old file is left beside new ones.
            files.delete_outputs()
            files.write_counts(run.dataset.counts())
            files.write_vocabularies(run.dataset.vocabularies)
            if run.dataset.seen is not None:
                files.write(SEEN, "seen.parquet", run.dataset.seen)
            # The last of them: with it the run can be resumed.
            files.write_json(
                "config.json",
                {
                    **config.to_dict(),
                    "derived": config.derived(),
                    "command": command,
                    "environment": environment,
                    "data_fingerprint": run.dataset.fingerprint(),
                    "data_notes": run.dataset.notes,
                    "workers": workers.count,
                    "replicas": workers.replicas,
                },
            )
            workers.agree("whether the run has begun")
            directory.begun = True
            return do_all(run)


def resume(
    directory: RunDirectory, *, moved: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Go on with a run that was interrupted, from its last whole epoch.

    It ends as it would have without the interruption. Of a run of which parts
    have failed these parts are tried again, and nothing else.

    Args:
        directory: Of the run.
        moved: Where the data are now, if not where they were: `dataset`,
            `data_dir`, `cache_dir` and the like, as `Config` has them.

    Returns:
        The content of `metrics.json`, at once if the run is finished.

    Raises:
        DataError: If the data are missing or malformed.
        RunError: If the directory is not that of a run, is damaged, in use
            or cannot be written, the data are no longer those of the run,
            there are more or fewer workers, or one of them has ended.
        DivergedError: If training of the dense model does.
        WorkersDisagreeError: If workers come to different results.
    """
    config, settings = directory.read_config()
    with _workers(config, directory) as (workers, files), files.lock():
        files.remove_partial_files()
        if files.finished:
            metrics = files.read_json("metrics.json")
            if not failed_parts(metrics):
                files.remove_checkpoint()
                files.remove_tried()
                logger.info(f"{files.path} is finished.")
                return metrics
            logger.info(f"trying again: {', '.join(failed_parts(metrics))}")
        directory.begun = True
        for name in ("workers", "replicas"):
            found = workers.count if name == "workers" else workers.replicas
            if found != settings[name]:
                raise RunError(
                    f"{files.path} was started with {settings[name]} {name}, "
                    f"found {found} now: start as many as then."
                )
        run = _run(config, files, workers, moved)
        files.check_data(run.dataset)
        if settings["environment"] != _environment():
            logger.warning(
                "Versions of packages differ from those that the run was "
                "started with: results may vary."
            )
        _agree(run, _environment())
        run.read()
        return do_all(run)


@contextlib.contextmanager
def _workers(
    config: Config, directory: RunDirectory
) -> Iterator[tuple[Workers, RunDirectory]]:
    """Gather the workers of a run; the directory is as this one may use it."""
    if config.distribute == "multi_worker":
        logger.info("waiting for the other workers")
    workers = Workers.of(config.distribute)
    if workers.strategy is not None:
        logger.info(str(workers) if workers.chief else "the chief reports")
    with (
        workers.raise_on_lost_worker(directory),
        workers.silent_unless_chief(),
    ):
        yield workers, workers.files(directory)


def _run(
    config: Config,
    files: RunDirectory,
    workers: Workers,
    moved: Mapping[str, Any] | None = None,
) -> Run:
    """Load the data of a run, and compute its budgets."""
    with workers.chief_first():
        dataset = replace(config, **(moved or {})).load_data()
    return Run(config, dataset, files, workers, moved=moved or {})


def _agree(run: Run, environment: Mapping[str, str]) -> None:
    """Make sure that all workers do the same; where they do it may differ."""
    apart = {"dataset", "data_dir", "cache_dir", "platform"}
    apart |= {"validation_file", "test_file", "vocabularies"}
    settings = {**run.config.to_dict(), **environment}
    run.workers.agree(
        "settings, data and versions",
        [
            sorted((k, v) for k, v in settings.items() if k not in apart),
            run.dataset.fingerprint(),
        ],
    )


def _environment() -> dict[str, str]:
    """The versions that a figure depends on."""
    packages = ("keras-pep", "keras", "tensorflow", "numpy", "pandas")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "backend": keras.backend.backend(),
        **{name: _version(name) for name in packages},
    }


def _version(package: str) -> str:
    """The version that is imported, by whatever name it was installed.

    TensorFlow is one that has several: `tensorflow-cpu` is another.
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return str(importlib.import_module(package).__version__)
