"""A model as a file: its weights, without an optimizer."""

import io
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras

from keras_pep.files import check_archive


def save_model(model: keras.Model, path: Path) -> None:
    """Write a `.keras` file."""
    bare = type(model).from_config(model.get_config())
    bare.build()
    bare.set_weights(model.get_weights())
    bare.save(path)


def load_model(path: Path) -> keras.Model:
    """Read a `.keras` file. It is not trusted: nothing in it runs.

    Raises:
        ValueError: If it is damaged, or not a model.
    """
    try:
        check_archive(path)
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # whatever zipfile, h5py and Keras meet
        lines = str(error).strip().splitlines() or [repr(error)]
        raise ValueError(lines[0]) from error


def stored_bytes(path: Path) -> int:
    """Bytes that the weights in a `.keras` file take there."""
    total = 0

    def add(_: str, item: Any) -> None:
        nonlocal total
        if isinstance(item, h5py.Dataset):
            total += item.id.get_storage_size()

    with zipfile.ZipFile(path) as archive:
        weights = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(weights, "r") as file:
        file.visititems(add)
    return total
