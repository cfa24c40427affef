"""Trainings that are taken up again where they were."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops

from keras_pep.distribution.replicas import build_slots
from keras_pep.files import check_archive

_FORMAT = 3  # another one where optimizers or callbacks remember other things
_SIMPLE = ("run", "stage", "epoch", "ended", "parts")
_ARRAYS = ("variables", "optimizer", "best")
# What `EarlyStopping` counts.
_STOPPING = ("wait", "stopped_epoch", "best", "best_epoch")


class Part(Protocol):
    """A callback that remembers something from one epoch to the next."""

    def state(self) -> Mapping[str, Any]:
        """Give all that it remembers, as JSON."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Remember it again."""


@dataclass(frozen=True)
class Saved:
    """A training as it was after an epoch.

    Attributes:
        stage: Which training it is.
        epoch: How many of its epochs were done.
        ended: Whether it was over by then.
        parts: States of its callbacks.
        variables: Values of the model's variables.
        optimizer: Of the optimizer's.
        best: Of the model's weights after its best epoch; empty before.
        run: Which run it is part of.
    """

    stage: str
    epoch: int
    ended: bool
    parts: Sequence[Mapping[str, Any]]
    variables: Sequence[np.ndarray]
    optimizer: Sequence[np.ndarray]
    best: Sequence[np.ndarray]
    run: str = ""

    def write(self, path: Path) -> None:
        """Write it."""
        groups = {name: getattr(self, name) for name in _ARRAYS}
        header = {
            "format": _FORMAT,
            **{name: getattr(self, name) for name in _SIMPLE},
            "arrays": {name: len(group) for name, group in groups.items()},
        }
        arrays: dict[str, Any] = {
            f"{name}.{number}": array
            for name, group in groups.items()
            for number, array in enumerate(group)
        }
        with path.open("wb") as file:
            np.savez(file, header=json.dumps(header), **arrays)

    @classmethod
    def read(cls, path: Path) -> "Saved":
        """Read what `write` wrote. Nothing in the file runs.

        Raises:
            ValueError: If it is damaged.
        """
        try:
            check_archive(path)
            with np.load(path, allow_pickle=False) as arrays:
                header = json.loads(str(arrays["header"]))
                if header["format"] != _FORMAT:
                    raise ValueError(
                        f"its format is {header['format']}, not {_FORMAT}"
                    )
                groups: dict[str, Any] = {
                    name: [arrays[f"{name}.{n}"] for n in range(count)]
                    for name, count in header["arrays"].items()
                }
            return cls(**{name: header[name] for name in _SIMPLE}, **groups)
        except Exception as error:  # whatever zipfile and NumPy meet
            raise ValueError(str(error) or repr(error)) from error


class Checkpoint(keras.callbacks.Callback):
    """Callback that writes a training down after every epoch.

    Or it takes it up again.

    It comes after all other callbacks, so that they have done their part.

    Args:
        write: What to do with it.
        stage: Name of the training.
        parts: Other callbacks that remember something.
        best: The one that remembers the best epoch, if there is one.
        saved: What to begin with, if the training has begun before.
    """

    def __init__(
        self,
        write: Callable[[Saved], None],
        stage: str,
        parts: Sequence[Part],
        best: keras.callbacks.EarlyStopping | None = None,
        saved: Saved | None = None,
    ) -> None:
        super().__init__()
        self.write = write
        self.stage = stage
        self.parts = parts
        self.best = best
        self.saved = saved

    def on_train_begin(self, logs: Any = None) -> None:
        """Give model, optimizer and callbacks what they had."""
        build_slots(self.model)
        if self.saved is None:
            return
        _assign(self.model.variables, self.saved.variables)
        _assign(self.model.optimizer.variables, self.saved.optimizer)
        *parts, best = self.saved.parts
        for part, state in zip(self.parts, parts, strict=True):
            part.restore(state)
        if self.best is not None:
            vars(self.best).update(best)
            self.best.best_weights = [*self.saved.best] or None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write them down."""
        counted = {name: getattr(self.best, name, None) for name in _STOPPING}
        saved = Saved(
            stage=self.stage,
            epoch=epoch + 1,
            ended=bool(self.model.stop_training),
            parts=[*(part.state() for part in self.parts), counted],
            variables=_values(self.model.variables),
            optimizer=_values(self.model.optimizer.variables),
            best=getattr(self.best, "best_weights", None) or (),
        )
        self.write(saved)


def _values(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    return [np.asarray(ops.convert_to_numpy(v)) for v in variables]


def _assign(
    variables: Sequence[keras.Variable], values: Sequence[np.ndarray]
) -> None:
    if [tuple(v.shape) for v in variables] != [v.shape for v in values]:
        raise ValueError("The checkpoint is of another model.")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
