"""`keras-pep train`: a run begun, or taken up again."""

import importlib
import importlib.metadata
import logging
import platform
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import keras

from keras_pep.data import Dataset
from keras_pep.lab.run.config import Config
from keras_pep.lab.run.directory import RunDirectory, RunError
from keras_pep.lab.run.journal import Journal
from keras_pep.lab.run.stages import Stages
from keras_pep.lab.run.table import failed_parts
from keras_pep.lab.run.workers import Workers
from keras_pep.pruning import check_budgets

logger = logging.getLogger(__name__)


def train(
    config: Config,
    directory: RunDirectory,
    *,
    force: bool = False,
    command: str | None = None,
) -> dict[str, Any]:
    """Does a whole run and writes its directory.

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
    workers = _gathered(config)
    with (
        workers.raise_on_lost_worker(directory),
        workers.silent_unless_chief(),
    ):
        with workers.chief_first():
            dataset = config.load_data()
        budgets = config.budgets(config.parameters(dataset))
        check_budgets(budgets, config.searched_parameters(dataset))
        for note in dataset.notes:
            logger.info(note)
        environment = _environment()
        _agree(workers, config, dataset, environment)
        files = workers.files(directory)
        files.create(force=force)
        with files.lock():
            # So that no old file is left beside new ones.
            files.delete_outputs()
            files.write_counts(dataset.counts())
            files.write_vocabularies(dataset.vocabularies)
            # The last of them: with it the run can be resumed.
            files.write_json(
                "config.json",
                {
                    **config.to_dict(),
                    "derived": config.derived(),
                    "command": command,
                    "environment": environment,
                    "data_fingerprint": dataset.fingerprint(),
                    "data_notes": dataset.notes,
                    "workers": workers.count,
                    "replicas": workers.replicas,
                },
            )
            workers.agree("whether the run has begun")
            directory.begun = files.begun = True
            journal = Journal(config, dataset, files, workers=workers)
            return Stages(journal).go()


def resume(
    directory: RunDirectory,
    *,
    moved: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Goes on with a run that was interrupted, from its last whole epoch.

    It ends as it would have without the interruption. Of a run of which parts
    have failed these parts are tried again, and nothing else.

    Args:
        directory: Of the run.
        moved: Where the data are now, if not where they were: `dataset`,
            `data_dir` and `cache_dir` as `Config` has them.

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
    workers = _gathered(config)
    files = workers.files(directory)
    with (
        workers.raise_on_lost_worker(directory),
        workers.silent_unless_chief(),
        files.lock(),
    ):
        files.remove_partial_files()
        if files.finished:
            metrics = files.read_json("metrics.json")
            if not failed_parts(metrics):
                files.remove_checkpoint()
                logger.info(f"{files.path} is finished.")
                return metrics
            logger.info(f"again: {', '.join(failed_parts(metrics))}")
        directory.begun = files.begun = True
        for name, found in (
            ("workers", workers.count),
            ("replicas", workers.replicas),
        ):
            if found != settings[name]:
                raise RunError(
                    f"{files.path} has begun with {settings[name]} {name} and "
                    f"goes on with as many; there are {found} now."
                )
        with workers.chief_first():
            dataset = replace(config, **(moved or {})).load_data()
        if dataset.fingerprint() != settings["data_fingerprint"]:
            raise RunError(
                f"The data are not those that {directory.path} was started "
                "with, or an earlier version of keras-pep has read them in "
                "another way: say where those are, or train anew."
            )
        if settings["environment"] != _environment():
            logger.warning(
                "Other versions than the run has begun with: results may vary."
            )
        _agree(workers, config, dataset, _environment())
        journal = Journal(config, dataset, files, workers=workers)
        journal.read()
        return Stages(journal).go()


def _gathered(config: Config) -> Workers:
    """Those that the run is to be trained by, once all are there."""
    if config.distribute == "multi_worker":
        logger.info("waiting for the other workers")
    workers = Workers.of(config.distribute)
    if workers.strategy is not None:
        logger.info(str(workers) if workers.chief else "the chief reports")
    return workers


def _agree(
    workers: Workers,
    config: Config,
    dataset: Dataset,
    environment: Mapping[str, str],
) -> None:
    """Makes sure that all workers do the same; where they do it may differ."""
    apart = {"dataset", "data_dir", "cache_dir", "platform"}
    workers.agree(
        "settings, data and versions",
        [
            sorted(
                (name, value)
                for name, value in {**config.to_dict(), **environment}.items()
                if name not in apart
            ),
            dataset.fingerprint(),
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
    """Of what is imported, by whatever name it was installed.

    TensorFlow is one that has several: `tensorflow-cpu` is another.
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return str(importlib.import_module(package).__version__)
