"""Ids outside their field, through every backend that is installed.

Each is an error or makes the logit of its own row NaN; none is looked up as
another feature.
"""

import numpy as np
import pytest

from tests.backends import run_on, skip_without

# What every way of calling a model answers to a batch whose middle row has a
# wrong id: an error, or logits.
PROGRAM = """
import json, os, sys
if os.environ["KERAS_BACKEND"] != "tensorflow":
    sys.modules["tensorflow"] = None  # must not be needed
import keras, numpy as np
import keras_pep
from keras_pep import PrunedEmbedding
from keras_pep.lab.baselines import MixedDimensionEmbedding
from keras_pep.layers.ids import nan_instead_of_error
from keras_pep.models import (
    DCN,
    FM,
    AutoInt,
    DeepFM,
    FvFM,
    LogisticRegression,
)

backend = keras.backend.backend()
keras.utils.set_random_seed(0)
LABELS = np.array([[1.0], [0.0], [1.0]], "float32")
GOOD = np.array([[2, 3], [0, 1], [1, 0]])


def ticket():
    table = np.arange(1.0, 29.0).reshape(7, 4) / 28
    sparse = keras_pep.sparse.SparseTable.from_dense(table)
    return keras_pep.Ticket({"embedding": sparse})


def answer(function):
    try:
        found = function()
    except Exception as error:
        return " ".join(str(error).split())
    if not isinstance(found, float):
        found = keras.ops.convert_to_numpy(found)[:, 0].tolist()
    return found


class Batches(keras.utils.PyDataset):
    def __init__(self, ids):
        super().__init__()
        self.ids = ids

    def __len__(self):
        return 1

    def __getitem__(self, n):
        return self.ids, LABELS


def compiled(model):
    model.build()
    model.compile(
        keras_pep.optimizers.AdamL2(0.0),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return model


def loss_of(history):
    return float(history.history["loss"][0])


def jitted(layer):
    import jax

    call = jax.jit(
        lambda ids: layer.stateless_call(
            [v.value for v in layer.trainable_variables],
            [v.value for v in layer.non_trainable_variables],
            ids,
        )[0]
    )
    return lambda ids: call(keras.ops.convert_to_tensor(ids))


def ways(model):
    found = {
        "call": lambda ids: model(ids),
        "call in training": lambda ids: model(ids, training=True),
        "predict": lambda ids: model.predict(ids, verbose=0),
        "predict on batches": lambda ids: model.predict(
            Batches(ids), verbose=0
        ),
        "predict on a batch": lambda ids: model.predict_on_batch(ids),
        "evaluate": lambda ids: float(model.evaluate(ids, LABELS, verbose=0)),
        "fit": lambda ids: loss_of(model.fit(ids, LABELS, verbose=0)),
        "fit batches": lambda ids: loss_of(model.fit(Batches(ids), verbose=0)),
        "train on a batch": lambda ids: float(
            model.train_on_batch(ids, LABELS)
        ),
        "test on a batch": lambda ids: float(model.test_on_batch(ids, LABELS)),
    }
    if backend == "tensorflow":
        import tensorflow as tf

        found["graph"] = lambda ids: tf.function(model)(tf.constant(ids))
        found["XLA"] = lambda ids: tf.function(model, jit_compile=True)(
            tf.constant(ids)
        )

        def to_be_served(ids):
            with nan_instead_of_error():
                graph = tf.function(model).get_concrete_function(
                    tf.TensorSpec([None, 2], ids.dtype)
                )
            kinds = {op.type for op in graph.graph.get_operations()}
            assert "Assert" not in kinds
            return graph(tf.constant(ids))

        found["to be served"] = to_be_served
    elif backend == "jax":
        found["jit"] = jitted(model)
    return found


WRONG = {
    "next field": (GOOD.dtype, [3, 0]),
    "behind the last": (GOOD.dtype, [0, 4]),
    "negative": (GOOD.dtype, [0, -1]),
    "before the first": (GOOD.dtype, [-1, 0]),
    "of 64 bits": ("int64", [2**32 + 1, 0]),
    "of 64 bits, negative": ("int64", [1, 1 - 2**32]),
    "unsigned": ("uint32", [2**32 - 1, 0]),
    "unsigned, of 64 bits": ("uint64", [0, 2**64 - 1]),
    "int8": ("int8", [-1, 0]),
    "uint8": ("uint8", [0, 200]),
    "no whole number": ("float32", [0.5, 1]),
    "no number": ("float32", [float("nan"), 1]),
    "float64": ("float64", [2.0**32 + 1, 1]),
}
RIGHT = ["int8", "uint8", "int16", "int32", "uint32", "int64", "float32"]


def with_wrong(name):
    dtype, row = WRONG[name]
    ids = GOOD.astype(dtype)
    ids[1] = np.array(row, dtype)
    return ids


results = {}
makers = {
    "LogisticRegression": lambda: LogisticRegression([3, 4]),
    "FM": lambda: FM([3, 4], 4),
    "FM, dense": lambda: FM([3, 4], 4, "dense"),
    "FM, pruned": lambda: FM([3, 4], 4, "pruned", ticket=ticket()),
    "DeepFM": lambda: DeepFM([3, 4], 4, hidden_units=[3]),
    "FvFM": lambda: FvFM([3, 4], 4),
    "DCN": lambda: DCN([3, 4], 4, hidden_units=[3]),
    "AutoInt": lambda: AutoInt([3, 4], 4, attention_units=4, hidden_units=[3]),
}
for name, make in makers.items():
    model = compiled(make())
    for variable in model.weights:
        if variable.name in ("embeddings", "kernel"):
            size = np.prod(variable.shape)
            values = np.linspace(0.1, 1, size).reshape(variable.shape)
            variable.assign(values)
    right = answer(lambda: model(GOOD))
    results[name] = {"right": right}
    for way, function in ways(model).items():
        if name != "FM" and way not in ("call", "predict"):
            continue
        cases = ["next field", "of 64 bits"]
        if name == "FM":
            cases = {
                "call": list(WRONG),
                "predict": [*cases, "negative", "float64"],
                # What it is called with has 32 bits.
                "jit": ["next field", "negative"],
            }.get(way, cases)
        results[name][way] = {
            case: answer(lambda: function(with_wrong(case))) for case in cases
        }
        for dtype in RIGHT if way == "call" and name == "FM" else ():
            results[name]["right " + dtype] = answer(
                lambda: function(GOOD.astype(dtype))
            )
        for weight in model.weights:
            assert np.isfinite(keras.ops.convert_to_numpy(weight)).all(), way

# Lists: -1 is no feature, and nothing else is.
lists = compiled(FM([3, 4], 4, field_lengths=[1, 2]))
for row in ([0, 1, -1], [0, -1, -1], [0, -2, 1], [0, 1, 4], [-1, 1, 1]):
    results["lists " + str(row)] = [
        answer(lambda: call(np.array([[1, 2, 3], row], "int32")))
        for call in (lists, lambda ids: lists.predict(ids, verbose=0))
    ]
results["columns"] = answer(lambda: model(np.zeros((3, 1), "int32")))

# Layers alone.
TABLE = np.where(np.arange(48).reshape(12, 4) % 3, np.linspace(1, 2, 4), 0)
TABLE[:9] *= np.arange(9)[:, None] % 2  # half of the rows hold nothing
ROWS = np.array([[1, 4, 7], [3, 6, 11], [2, 5, 8]])
layers = {
    "PEPEmbedding": keras_pep.PEPEmbedding(12, 4),
    "Linear": keras_pep.layers.Linear(12),
    "MixedDimension": MixedDimensionEmbedding(
        (4, 3, 5), (2, 4, 1), 4
    ),
    "nothing kept": PrunedEmbedding.from_dense(0 * TABLE),
}
for storage in ("csr", "bitmask", "dense"):
    for trainable in (True, False):
        layers[f"{storage}, {trainable}"] = PrunedEmbedding.from_dense(
            TABLE, storage=storage, trainable=trainable
        )


def layer_ways(layer):
    yield "call", layer
    if backend == "tensorflow":
        import tensorflow as tf

        yield "graph", lambda ids: tf.function(layer)(tf.constant(ids))

        def to_be_served(ids):
            with nan_instead_of_error():
                return tf.function(layer)(tf.constant(ids))

        yield "to be served", to_be_served
    elif backend == "jax":
        yield "jit", jitted(layer)


for name, layer in layers.items():
    layer.build((None, 3))
    for weight in layer.trainable_weights:
        if weight.name not in ("threshold_logits", "values"):
            values = np.linspace(1, 2, np.prod(weight.shape))
            weight.assign(values.reshape(weight.shape))
    right = keras.ops.convert_to_numpy(layer(ROWS))
    for way, call in layer_ways(layer):
        for wrong in (-1, 12, 2**32 + 1):
            if way == "jit" and wrong > 12:
                continue  # no 64 bits there
            ids = ROWS.astype("int32" if wrong < 13 else "int64")
            ids[1, 0] = wrong
            try:
                found = keras.ops.convert_to_numpy(call(ids))
            except Exception as error:
                found = " ".join(str(error).split())
            else:
                # A vector of each id, or their sum in a row.
                place = (1, 0) if found.ndim == 3 else 1
                assert np.isnan(found[place]).all(), (name, way, wrong, found)
                found[place] = right[place]
                np.testing.assert_allclose(found, right, rtol=1e-6)
                found = "NaN"
            results.setdefault("layers", {})[f"{name}, {way}, {wrong}"] = found
print(json.dumps(results))
"""


FOUND = {
    "next field": "Found: 3 in field 0 (column 0). Expected: an id in [0, 3).",
    "behind the last": (
        "Found: 4 in field 1 (column 1). Expected: an id in [0, 4)."
    ),
    "negative": "Found: -1 in field 1 (column 1). Expected: an id in [0, 4).",
}


def is_error_of(answer, case):
    return "An id is not in its field. " + FOUND.get(case, "") in answer


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_a_wrong_id_is_an_error_or_its_row_is_nan(backend):
    """In one test, so that the program runs once."""
    skip_without(backend)
    results = run_on(backend, "-c", PROGRAM)
    check_models(results, backend)
    check_lists(results, backend)
    # Nor are other numbers of columns broadcast.
    assert "ids of shape (3, 1). Expected: (batch, 2)." in results["columns"]
    check_layers(results["layers"])


def check_models(results, backend):
    nan = {
        "tensorflow": {"XLA", "to be served"},
        # What is compiled; in eager calls JAX knows the values.
        "jax": set(results["FM"]) - {"call", "call in training", "right"},
        "torch": set(),
    }[backend]
    ways = 0
    for name, of_model in results.items():
        if not isinstance(of_model, dict) or "right" not in of_model:
            continue
        right = of_model["right"]
        assert len(right) == 3
        assert np.isfinite(right).all()
        for way, cases in of_model.items():
            if way.startswith("right"):
                # In every type of integer, and whole floats.
                assert cases == pytest.approx(right, rel=1e-6), way
                continue
            for case, answer in cases.items():
                ways += 1
                where = f"{name}, {way}, {case}: {answer}"
                if way not in nan:
                    unsupported = "Unsupported dtype for PyTorch: uint64"
                    assert isinstance(answer, str), where
                    assert is_error_of(answer, case) or (
                        backend == "torch" and answer == unsupported
                    ), where
                elif isinstance(answer, float):  # a loss
                    assert np.isnan(answer), where
                else:
                    assert np.isnan(answer[1]), where
                    assert answer[0::2] == pytest.approx(
                        right[0::2], rel=1e-5
                    ), where
    assert ways > 50


def check_lists(results, backend):
    """-1 is no feature in a list, and nothing else is."""
    for row in ([0, 1, -1], [0, -1, -1]):
        eager, predicted = results[f"lists {row}"]
        assert np.isfinite(eager).all()
        assert predicted == pytest.approx(eager, abs=1e-6)
    for row, found in (
        ([0, -2, 1], "Found: -2 in field 1 (column 1)"),
        ([0, 1, 4], "Found: 4 in field 1 (column 2)"),
        ([-1, 1, 1], "Found: -1 in field 0 (column 0)"),
    ):
        eager, predicted = results[f"lists {row}"]
        assert found in eager
        if backend == "jax":
            assert np.isfinite(predicted[0])
            assert np.isnan(predicted[1])
        else:
            assert found in predicted


def check_layers(layers):
    """The program has compared what is not NaN."""
    assert len(layers) > 25
    for name, answer in layers.items():
        if "served" in name or "jit" in name:
            assert answer == "NaN", name
        else:
            assert "not in" in answer, name
