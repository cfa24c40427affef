"""Training with clusters of features: they are moved between, and split."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pep.data import Split, batches
from keras_pep.distribution.replicas import scope_of
from keras_pep.layers import RowEmbedding, variables
from keras_pep.layers.exchange import copy_weights, exchanged, in_place
from keras_pep.metrics import predict

_SPLITTINGS = 7  # after the first epochs, of the first half at most
_RATE, _BATCH = 0.01, 8192  # of steps so small that they add up to gradients


class Splitting(keras.callbacks.Callback):
    """Moves features to other clusters, and splits these, as CEL does.

    Args:
        name: Name of a `CELEmbedding` in a `keras_pep.models.FieldModel`.
        rows: The rows that it is trained on.
    """

    def __init__(self, name: str, rows: Split) -> None:
        super().__init__()
        self.name, self.rows = name, rows

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Do so after each of the first epochs."""
        last = min(_SPLITTINGS, self.params["epochs"] // 2)
        if 0 < epoch <= last:
            layer = self.model.get_layer(self.name)
            gradients = gradients_of(self.model, layer, self.rows)
            gradients[self._move(layer, gradients)] = 0
            first = len(layer.field_sizes)
            growth = (layer.rows / first) ** (epoch / last)
            layer.split(gradients, round(first * growth))

    def _move(self, layer: Any, gradients: np.ndarray) -> np.ndarray:
        """Move the features whose loss falls by it, and return which."""
        before = variables.values_of(layer.clusters)
        proposed, losses = layer.proposed(gradients), self._losses()
        found = before.copy()
        for number in range(len(layer.field_sizes)):
            # A row has one feature of a field, so no other moves in it.
            moved = (layer.fields == number) & (proposed != before)
            if moved.any():
                tried = np.where(moved, proposed, before)
                variables.assign(layer.clusters, tried)
                better = moved & (self._losses() < losses)
                found[better] = proposed[better]
        variables.assign(layer.clusters, found)
        return np.asarray(found != before)

    def _losses(self) -> np.ndarray:
        """Sum the loss of the rows of each feature."""
        ids, labels, weights = (
            self.rows.ids[: len(self.rows)],
            self.rows.labels,
            self.rows.weights,
        )
        logits = predict(self.model, self.rows.ids)[:, 0].astype(np.float64)
        each = np.logaddexp(0, logits) - labels * logits
        if weights is not None:
            each = each * weights
        features = ops.convert_to_numpy(self.model.table_rows(ids))
        found = np.zeros(sum(self.model.field_sizes))
        for column, there in zip(features.T, ids.T >= 0, strict=True):
            found += np.bincount(column[there], each[there], found.size)
        return found


def gradients_of(model: Any, layer: Any, rows: Split) -> np.ndarray:
    """Gradients by vectors, if each feature had a vector of its own.

    By a pass over the rows in steps of gradient descent, which are so small
    that the gradient is hardly another at the end.

    Args:
        model: A compiled model with the layer; it is left as it is.
        layer: A `CELEmbedding` of it.
        rows: Rows to train on.

    Returns:
        The sum over batches of mean gradients, `(features, output_dim)`.
    """
    size, name = (layer.input_dim, layer.output_dim), layer.name
    found = variables.values_of(layer.clusters)
    before = variables.values_of(layer.table)[found]

    def exchange(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
        settings = config.get("config")
        if not isinstance(settings, Mapping) or settings.get("name") != name:
            return None
        own = RowEmbedding(*size, name=name, dtype=layer.dtype_policy)
        return in_place(config, own)

    with scope_of(model):
        made, tables = exchanged(model, exchange, [name], RowEmbedding)
        table = tables[name]
        copy_weights(model, made, (layer.weights, table.weights))
        variables.assign(table.embeddings, before)
        for weight in made.weights:
            weight.trainable = weight is table.embeddings
        made.compile(keras.optimizers.SGD(_RATE), model.loss)
    made.fit(batches(rows, _BATCH, 0), shuffle=False, verbose=0)
    moved: np.ndarray = before - variables.values_of(table.embeddings)
    return moved / _RATE
