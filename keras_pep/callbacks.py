"""Callbacks for `model.fit`."""

from typing import Any

import keras
import numpy as np

from keras_pep.metrics import evaluate
from keras_pep.optimizers import catch_up
from keras_pep.pruning.callback import PEPRetraining
from keras_pep.runtime import EitherKeras, refuse_model

__all__ = ["ExactValidation", "PEPRetraining"]


class ExactValidationMixin(EitherKeras):
    """Adds `val_auc` and `val_logloss`, exact over a whole split, to the logs.

    `keras.metrics.AUC` is binned, and an average over batches is no AUC at
    all. Put it before callbacks that read the logs, such as
    `keras.callbacks.EarlyStopping(monitor="val_auc", mode="max")`.

    Args:
        inputs: Inputs of the model: an array, a dict or tuple of arrays, or
            the ids of a `keras_pep.data.Split`.
        labels: 0 or 1, `(rows,)`.
        batch_size: Rows to predict at once.
        weights: How much each row counts, `(rows,)`; by default all alike.

    Example:

    ```python
    ids, labels = validation
    judge = keras_pep.callbacks.ExactValidation(ids, labels[:, 0])
    model.fit(*train, callbacks=[judge])  # logs val_auc and val_logloss
    ```
    """

    def __init__(
        self,
        inputs: Any,
        labels: np.ndarray,
        batch_size: int = 8192,
        weights: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.labels = labels
        self.batch_size = batch_size
        self.weights = weights

    def set_model(self, model: Any) -> None:
        """Refuse a model of the other Keras."""
        refuse_model(self, model)
        super().set_model(model)

    def on_test_begin(self, logs: Any = None) -> None:
        """Bring rows up to date that the optimizer has left behind."""
        catch_up(self.model.optimizer)

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Predict the split and add the two figures."""
        catch_up(self.model.optimizer)
        figures = evaluate(
            *(self.model, self.inputs, self.labels),
            *(self.batch_size, self.weights),
        )
        if logs is not None:
            logs.update({f"val_{name}": x for name, x in figures.items()})


class ExactValidation(ExactValidationMixin, keras.callbacks.Callback):  # noqa: D101
    __doc__ = ExactValidationMixin.__doc__
