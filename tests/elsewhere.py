"""A program that computes with JAX or PyTorch, in one process of each.

Reads tables as JSON, and prints what it has found as JSON.
"""

import json
import sys

import keras
import numpy as np

import keras_pep
from keras_pep import blocks
from keras_pep.lab.baselines import COMPRESSED
from keras_pep.layers import initial
from keras_pep.layers.storage import STORAGES
from tests.layers.test_initial import pinned_numbers


def looked_up(tables):
    """The largest difference of look-ups from the table, in every layout."""
    worst, none = 0.0, np.zeros((0, 3), "int32")
    for table in map(np.array, tables):
        ids = np.random.default_rng(1).integers(0, len(table), (5, 40))
        for storage in STORAGES:
            for quantize in (None, "float16", "int8"):
                layer = keras_pep.PrunedEmbedding.from_dense(
                    table, storage=storage, quantize=quantize
                )
                expected = layer.sparse().to_dense()[ids]
                found = keras.ops.convert_to_numpy(layer(ids))
                worst = max(worst, float(np.abs(found - expected).max()))
            assert layer(none).shape == (0, 3, table.shape[1])
    return worst


def compressed():
    """Weights and vectors of every compressed table."""
    found = {}
    for name, kind in COMPRESSED.items():
        layer = kind(50, 6, 400, seed=3)
        layer.build()
        weights = map(keras.ops.convert_to_numpy, layer.weights)
        vectors = keras.ops.convert_to_numpy(layer(np.arange(50)))
        found[name] = [w.tolist() for w in weights], vectors.tolist()
    return found


def drawn():
    """Whether blocks made alone are those of the table, and its quantiles."""
    layer = keras_pep.PEPEmbedding(
        *(16_000, 8),
        embeddings_initializer=keras.initializers.RandomNormal(seed=1),
    )
    layer.build()
    table = keras.ops.convert_to_numpy(layer.embeddings)
    shards = getattr(layer.embeddings.value, "addressable_shards", [])
    return {
        "same": bool(np.array_equal(table, layer.initial_embeddings())),
        "quantiles": np.quantile(table, [0.1, 0.5, 0.9]).tolist(),
        "shards": [s.data.shape for s in shards] if len(shards) > 1 else [],
    }


def drawn_on_devices():
    """The same on one device and, on JAX, on eight."""
    blocks.ENTRIES_AT_ONCE = initial._ENTRIES_DRAWN = 600
    initial.LARGE = 3000
    found = [drawn()]
    if keras.backend.backend() == "jax":
        devices = keras.distribution.DeviceMesh((8,), ["rows"])
        layout = keras.distribution.LayoutMap(devices)
        layout[".*embeddings"] = ("rows", None)
        keras.distribution.set_distribution(
            keras.distribution.ModelParallel(layout_map=layout)
        )
        found.append(drawn())
    return found


def exported():
    """Return the message of an export on this backend, if it fails."""
    model = keras_pep.models.FM((4, 4), 8)
    model.build()
    try:
        keras_pep.export_saved_model(model, "x/1")
    except Exception as error:
        return str(error)
    return ""


def main():
    found = {
        "worst": looked_up(json.load(sys.stdin)),
        "compressed": compressed(),
        "exported": exported(),
        "pinned": pinned_numbers(),
        "drawn": drawn_on_devices(),
    }
    print(json.dumps(found))
