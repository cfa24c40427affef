"""The devices and processes that a run is trained on."""

import contextlib
import functools
import json
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from keras_pep.distribution import replicas
from keras_pep.lab.run.directory import RunDirectory, RunError

DISTRIBUTIONS = ("none", "mirrored", "multi_worker")

_EXAMPLE = (
    '{"cluster": {"worker": ["host-a:12345", "host-b:12345"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


class WorkerLostError(RunError):
    """Another worker has ended, so that this one cannot go on."""


class Workers:
    """The processes that train a run together.

    Args:
        strategy: Of `tf.distribute`, or None.
    """

    def __init__(self, strategy: Any = None) -> None:
        self.strategy = strategy
        self.count = replicas.worker_count(strategy)
        self.chief = replicas.is_chief(strategy)

    @classmethod
    def of(cls, distribute: str) -> "Workers":
        """Make the workers that a setting asks for.

        That of several workers has to be made before TensorFlow computes
        anything, and waits for all of them.

        Args:
            distribute: One of `DISTRIBUTIONS`.

        Raises:
            ValueError: If there is no such setting, Keras does not run on
                TensorFlow, or the environment variable `TF_CONFIG` does not
                say which workers there are.
        """
        return cls(_strategy(distribute))

    def __str__(self) -> str:
        """How many there are."""
        workers = "1 process" if self.count == 1 else f"{self.count} workers"
        return f"{self.replicas} replicas in {workers}"

    @property
    def replicas(self) -> int:
        """How many have a share of each batch, in all workers together."""
        if self.strategy is None:
            return 1
        return int(self.strategy.num_replicas_in_sync)

    def files(self, directory: RunDirectory) -> RunDirectory:
        """The run directory as this worker may use it."""
        if self.chief:
            return directory
        return RunDirectory(directory.path, writes=False)

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Where models and optimizers are to be made."""
        return replicas.scope(self.strategy)

    @contextlib.contextmanager
    def chief_first(self) -> Iterator[None]:
        """Have the others wait until the chief is through with something."""
        if not self.chief:
            self.agree("whose turn it is")
        yield
        if self.chief:
            self.agree("whose turn it is")

    @contextlib.contextmanager
    def silent_unless_chief(self) -> Iterator[None]:
        """Log nothing in other workers: they need not repeat the chief."""
        logger = logging.getLogger("keras_pep")
        level = logger.level
        if not self.chief:
            logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            logger.setLevel(level)

    def agree(self, what: str, result: Any = None) -> None:
        """Wait for all, and make sure that they have the same.

        Args:
            what: What it is, for the message.
            result: Something that JSON can hold.

        Raises:
            WorkersDisagreeError: If they differ.
        """
        text = json.dumps(result, sort_keys=True)
        replicas.agree(self.strategy, what, text)

    @contextlib.contextmanager
    def raise_on_lost_worker(self, directory: RunDirectory) -> Iterator[None]:
        """Tell in a line if another worker has ended.

        Args:
            directory: Of the run.

        Raises:
            WorkerLostError: If one has.
        """
        if self.count == 1:
            yield
            return
        import tensorflow as tf

        errors = tf.errors
        try:
            yield
        except (
            errors.AbortedError,
            errors.CancelledError,
            errors.DeadlineExceededError,
            errors.FailedPreconditionError,  # it has been started again
            errors.UnavailableError,
        ) as error:
            hint = "see what it says."
            if directory.begun:
                hint = (
                    "start all of them again with keras-pep train --resume "
                    f"{directory.path}"
                )
            raise WorkerLostError(
                f"Another worker has ended or cannot be reached: {hint}"
            ) from error


@functools.cache
def _strategy(distribute: str) -> Any:
    """A process can have but one."""
    if distribute == "none":
        return None
    if distribute not in DISTRIBUTIONS:
        raise ValueError(
            f"`distribute` must be one of {', '.join(DISTRIBUTIONS)}. "
            f"Received: distribute={distribute!r}"
        )
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "`distribute` needs TensorFlow: set KERAS_BACKEND=tensorflow. On "
            "JAX use keras.distribution. "
            f"Received: distribute={distribute!r}"
        )
    if distribute == "multi_worker":
        check_tf_config(os.environ)
    import tensorflow as tf

    if distribute == "multi_worker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    devices = tf.config.list_logical_devices(
        "GPU"
    ) or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([each.name for each in devices])


def check_tf_config(environment: Mapping[str, str]) -> None:
    """Make sure that `TF_CONFIG` says which workers there are.

    Args:
        environment: The variables.

    Raises:
        ValueError: If it does not; says what is wrong.
    """
    text = environment.get("TF_CONFIG", "")
    try:
        if not text.strip():
            raise ValueError("it is not set")
        _check_workers(json.loads(text))
    except ValueError as error:  # that of JSON is one
        raise ValueError(
            "The environment variable TF_CONFIG must say which workers there "
            f"are and which of them this is: {error}. For example: {_EXAMPLE}"
        ) from error


def _check_workers(content: Any) -> None:
    cluster = content.get("cluster") if isinstance(content, dict) else None
    if not isinstance(cluster, dict) or not cluster:
        raise ValueError("it has no `cluster`")
    if unknown := cluster.keys() - {"chief", "worker"}:
        raise ValueError(f"a worker cannot be a {sorted(unknown)[0]!r}")
    for kind, addresses in cluster.items():
        if not isinstance(addresses, list) or not all(
            isinstance(address, str)
            and address.rpartition(":")[0]
            and address.rpartition(":")[2].isdecimal()
            for address in addresses
        ):
            raise ValueError(f"`{kind}` is not a list of host:port")
    addresses = [each for kind in cluster.values() for each in kind]
    if len(set(addresses)) < max(2, len(addresses)):
        raise ValueError(
            f"expected two or more different addresses, found {addresses}"
        )
    if len(cluster.get("chief", ())) > 1:
        raise ValueError("there is more than one `chief`")
    task = content.get("task")
    if not isinstance(task, dict) or task.get("type") not in cluster:
        raise ValueError(f"`task` has no `type` of {sorted(cluster)}")
    index, number = task.get("index"), len(cluster[task["type"]])
    if type(index) is not int or not 0 <= index < number:
        raise ValueError(
            f"`index` of `task` must be from 0 to {number - 1}, found {index!r}"
        )
