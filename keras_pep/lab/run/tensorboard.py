"""Figures of a training, for TensorBoard."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pep._keras_compat import layers_within
from keras_pep.data import Dataset
from keras_pep.lab.presets import preset
from keras_pep.layers.pep_embedding import PEPEmbedding
from keras_pep.layers.pruned_embedding import PrunedEmbedding
from keras_pep.thresholds import thresholds

logger = logging.getLogger(__name__)

_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


class TensorBoardLog(keras.callbacks.Callback):
    """Callback that writes an event file, a record after every epoch.

    Loss, validation figures, kept parameters and sparsity; of a searched or
    pruned table kept parameters by field, a histogram of the embedding sizes,
    and quantiles of the thresholds. Needs no TensorBoard. If
    the file cannot be written, it logs a warning, and training goes on.

    Args:
        folder: Of the file.
        dataset: Whose fields the model takes.
        parameters: How many embedding parameters a sparsity of 0 is.
    """

    def __init__(self, folder: Path, dataset: Dataset, parameters: int) -> None:
        super().__init__()
        self.folder = folder
        self.field_sizes = dict(
            zip(dataset.fields, dataset.field_sizes, strict=True)
        )
        self.parameters = parameters
        self._failed = False
        self._writer: Any = None

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Write the epoch."""
        if self._failed:
            return
        logs = logs or {}
        kept = int(logs["embedding_parameters"])
        scalars = {
            "loss": logs["loss"],
            "validation/auc": logs["val_auc"],
            "validation/logloss": logs["val_logloss"],
            "embedding/parameters": kept,
            "embedding/sparsity": 1 - kept / self.parameters,
            **self._thresholds(),
        }
        sizes = self._sizes()
        if sizes is not None:
            ends = np.cumsum([*self.field_sizes.values()])[:-1]
            for name, part in zip(
                self.field_sizes, np.split(sizes, ends), strict=True
            ):
                scalars[f"parameters by field/{name}"] = part.sum()
        try:
            self._write(epoch + 1, scalars, sizes)
        except Exception as error:  # OSError, or one of TensorFlow's
            self._failed = True
            logger.warning(
                f"TensorBoard's files in {self.folder} end here: {error}"
            )

    def on_train_end(self, logs: Any = None) -> None:
        """Close the file."""
        if self._writer is not None and not self._failed:
            self._writer.close()

    def _tables(self) -> list[Any]:
        return [
            layer
            for layer in layers_within(self.model)
            if isinstance(layer, PEPEmbedding | PrunedEmbedding)
            and layer.input_dim == sum(self.field_sizes.values())
        ]

    def _sizes(self) -> np.ndarray | None:
        """Kept entries of every feature, in all tables; None without one."""
        sizes = [
            layer.embedding_sizes()
            if isinstance(layer, PEPEmbedding)
            else layer.sparse().embedding_sizes()
            for layer in self._tables()
        ]
        return np.sum(sizes, axis=0) if sizes else None

    def _thresholds(self) -> dict[str, float]:
        """Quantiles of the thresholds of every searched table."""
        found = {}
        for layer in self._tables():
            if not isinstance(layer, PEPEmbedding):
                continue
            logits = np.ravel(ops.convert_to_numpy(layer.threshold_logits))
            logits = logits[:: -(-logits.size // preset("sampled_thresholds"))]
            values = thresholds(ops.convert_to_tensor(logits), layer.clock)
            for share, value in zip(
                _QUANTILES,
                np.quantile(ops.convert_to_numpy(values), _QUANTILES),
                strict=True,
            ):
                found[f"threshold of {layer.name}/{share:.0%}"] = float(value)
        return found

    def _write(
        self,
        step: int,
        scalars: Mapping[str, float],
        sizes: np.ndarray | None,
    ) -> None:
        import tensorflow as tf
        from tensorflow.core.framework import summary_pb2

        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self.folder))
        summary = summary_pb2.Summary()
        for tag, value in scalars.items():
            summary.value.add(tag=tag, simple_value=float(value))
        if sizes is not None:
            summary.value.add(
                tag="embedding sizes", histo=_histogram(np.bincount(sizes))
            )
        with self._writer.as_default(step):
            # Those for a scalar or a histogram need TensorBoard.
            tf.summary.experimental.write_raw_pb(summary.SerializeToString())
        self._writer.flush()


def _histogram(counts: np.ndarray) -> dict[str, Any]:
    """Count features of each size, 0 and up, as TensorBoard has it."""
    sizes = np.arange(counts.size)
    return {
        "min": float(sizes[counts > 0].min()),
        "max": float(sizes[-1]),
        "num": float(counts.sum()),
        "sum": float((counts * sizes).sum()),
        "sum_squares": float((counts * sizes**2).sum()),
        "bucket_limit": (sizes + 0.5).tolist(),
        "bucket": counts.astype(float).tolist(),
    }
