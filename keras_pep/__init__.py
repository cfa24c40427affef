"""keras-pep: learnable embedding sizes for Keras 3."""

import logging
from typing import TYPE_CHECKING

from keras_pep.lazy import attach, register

__version__ = "0.2.0"

if TYPE_CHECKING:
    from keras_pep import (
        callbacks,
        data,
        distribution,
        layers,
        metrics,
        models,
        optimizers,
        tfrs,
    )
    from keras_pep.layers import PEPEmbedding, PrunedEmbedding
    from keras_pep.pruning import (
        Ticket,
        continued,
        convert,
        prune,
        pruned_model,
        retrain,
        soft_labels,
    )
    from keras_pep.pruning.search import search
    from keras_pep.serving import export_saved_model

__all__ = [
    "PEPEmbedding",
    "PrunedEmbedding",
    "Ticket",
    "callbacks",
    "continued",
    "convert",
    "data",
    "distribution",
    "export_saved_model",
    "layers",
    "metrics",
    "models",
    "optimizers",
    "prune",
    "pruned_model",
    "pruning",
    "retrain",
    "search",
    "serving",
    "soft_labels",
    "tfrs",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        **{name: f"{__name__}.{name}" for name in __all__ if name.islower()},
        "PEPEmbedding": "keras_pep.layers",
        "PrunedEmbedding": "keras_pep.layers",
        "export_saved_model": "keras_pep.serving",
        **dict.fromkeys(
            (
                *("Ticket", "continued", "convert", "prune", "pruned_model"),
                *("retrain", "search", "soft_labels"),
            ),
            "keras_pep.pruning",
        ),
    },
)

logging.getLogger(__name__).addHandler(logging.NullHandler())

register()
