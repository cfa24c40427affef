"""Labels that say what a larger model has made of a row."""

from typing import Any

import keras
import numpy as np

from keras_pep.metrics import predict


def soft_labels(
    model: keras.Model,
    inputs: Any,
    labels: np.ndarray,
    share: float = 0.5,
    batch_size: int = 8192,
) -> np.ndarray:
    """Labels mixed with the probabilities of a trained model.

    Searched for and retrained with them, a small table comes closer to what
    the full one has learned, and overfits less.

    Args:
        model: The trained model, its outputs logits.
        inputs: What it is called on: an array, or the ids of a
            `keras_pep.data.Split`.
        labels: 0 or 1, `(rows,)` or `(rows, 1)`.
        share: Float from 0 to 1, the weight of the model's probability.
        batch_size: Rows to predict at once.

    Returns:
        float32 array from 0 to 1, with the shape of `labels`.

    Raises:
        ValueError: If `share` is not from 0 to 1, or the model does not give
            one logit for each label.

    Example:

    ```python
    ids, labels = train
    soft = keras_pep.soft_labels(dense, ids, labels)
    model.fit(ids, soft, epochs=2)
    ```

    Reference:
        - [Hinton et al., 2015](https://arxiv.org/abs/1503.02531)
    """
    if not 0 <= share <= 1:
        raise ValueError(
            f"`share` must be from 0 to 1. Received: share={share}"
        )
    logits = predict(model, inputs, batch_size)
    if logits.size != labels.size:
        raise ValueError(
            "The model must give one logit for each label. Received: labels "
            f"of shape {labels.shape}, logits of shape {logits.shape}"
        )
    # By halves of tanh, which does not overflow.
    probabilities = 0.5 + 0.5 * np.tanh(0.5 * logits.reshape(labels.shape))
    mixed = (1 - share) * labels + share * probabilities
    return np.asarray(mixed, dtype=np.float32)
