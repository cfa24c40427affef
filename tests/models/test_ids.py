"""Ids outside their field, on the backend that the tests run on.

Each is an error or makes the logit of its own row NaN; none is looked up as
another feature.
"""

import functools

import keras
import numpy as np
import pytest

import keras_pep
from keras_pep import PrunedEmbedding
from keras_pep.lab.baselines import MixedDimensionEmbedding
from keras_pep.layers.ids import nan_instead_of_error
from keras_pep.models import (
    DCN,
    FM,
    GEM,
    AutoInt,
    DeepFM,
    FvFM,
    LogisticRegression,
)

pytestmark = [
    pytest.mark.slow,
    # JAX has no 64 bits.
    pytest.mark.filterwarnings("ignore:Explicitly requested dtype"),
    pytest.mark.filterwarnings("ignore:.*will be truncated to dtype"),
]
BACKEND = keras.backend.backend()
LABELS = np.array([[1.0], [0.0], [1.0]], "float32")
GOOD = np.array([[2, 3], [0, 1], [1, 0]])
# Type and values of the second row, and what an error says was found.
WRONG = {
    "next field": (GOOD.dtype, [3, 0], "3 in field 0 (column 0)."),
    "behind the last": (GOOD.dtype, [0, 4], "4 in field 1 (column 1)."),
    "negative": (GOOD.dtype, [0, -1], "-1 in field 1 (column 1)."),
    "before the first": (GOOD.dtype, [-1, 0], ""),
    "of 64 bits": ("int64", [2**32 + 1, 0], ""),
    "of 64 bits, negative": ("int64", [1, 1 - 2**32], ""),
    "unsigned": ("uint32", [2**32 - 1, 0], ""),
    "unsigned, of 64 bits": ("uint64", [0, 2**64 - 1], ""),
    "int8": ("int8", [-1, 0], ""),
    "uint8": ("uint8", [0, 200], ""),
    "no whole number": ("float32", [0.5, 1], ""),
    "no number": ("float32", [float("nan"), 1], ""),
    "float64": ("float64", [2.0**32 + 1, 1], ""),
}
RIGHT = ["int8", "uint8", "int16", "int32", "uint32", "int64", "float32"]


def with_wrong(name):
    dtype, row, _ = WRONG[name]
    ids = GOOD.astype(dtype)
    ids[1] = np.array(row, dtype)
    return ids


def ticket():
    table = np.arange(1.0, 29.0).reshape(7, 4) / 28
    sparse = keras_pep.sparse.SparseTable.from_dense(table)
    return keras_pep.Ticket({"embedding": sparse})


MODELS = {
    "LogisticRegression": lambda: LogisticRegression([3, 4]),
    "FM": lambda: FM([3, 4], 4),
    "FM, dense": lambda: FM([3, 4], 4, "dense"),
    "FM, pruned": lambda: FM([3, 4], 4, "pruned", ticket=ticket()),
    "DeepFM": lambda: DeepFM([3, 4], 4, hidden_units=[3]),
    "FvFM": lambda: FvFM([3, 4], 4),
    "GEM": lambda: GEM([3, 4], 4),
    "DCN": lambda: DCN([3, 4], 4, hidden_units=[3]),
    "AutoInt": lambda: AutoInt([3, 4], 4, attention_units=4, hidden_units=[3]),
}


def compiled(model):
    model.compile(
        keras_pep.optimizers.AdamL2(0.0),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    for variable in model.weights:
        if variable.name in ("embeddings", "kernel"):
            size = np.prod(variable.shape)
            values = np.linspace(0.1, 1, size).reshape(variable.shape)
            variable.assign(values)
    return model


class Batches(keras.utils.PyDataset):
    def __init__(self, ids):
        super().__init__()
        self.ids = ids

    def __len__(self):
        return 1

    def __getitem__(self, n):
        return self.ids, LABELS


def answer(function, *arguments):
    """The message of an error, a loss, or an array."""
    try:
        found = function(*arguments)
    except Exception as error:
        return " ".join(str(error).split())
    if isinstance(found, float):
        return found
    return keras.ops.convert_to_numpy(found)


def compiled_ways(layer):
    """Ways to call a layer that answer with NaN."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        def to_be_served(ids):
            with nan_instead_of_error():
                graph = tf.function(layer).get_concrete_function(
                    tf.TensorSpec([None, *ids.shape[1:]], ids.dtype)
                )
            kinds = {op.type for op in graph.graph.get_operations()}
            assert "Assert" not in kinds
            return graph(tf.constant(ids))

        return {"to be served": to_be_served}
    if BACKEND == "jax":
        import jax

        call = jax.jit(
            lambda ids: layer.stateless_call(
                [v.value for v in layer.trainable_variables],
                [v.value for v in layer.non_trainable_variables],
                ids,
            )[0]
        )
        return {"jit": lambda ids: call(keras.ops.convert_to_tensor(ids))}
    return {}


def ways(model):
    def loss_of(history):
        return float(history.history["loss"][0])

    found = {
        "call": model,
        "predict": lambda ids: model.predict(ids, verbose=0),
        "call in training": lambda ids: model(ids, training=True),
        "predict on batches": lambda ids: model.predict(
            Batches(ids), verbose=0
        ),
        "predict on a batch": model.predict_on_batch,
        "evaluate": lambda ids: float(model.evaluate(ids, LABELS, verbose=0)),
        "fit": lambda ids: loss_of(model.fit(ids, LABELS, verbose=0)),
        "fit batches": lambda ids: loss_of(model.fit(Batches(ids), verbose=0)),
        "train on a batch": lambda ids: float(
            model.train_on_batch(ids, LABELS)
        ),
        "test on a batch": lambda ids: float(model.test_on_batch(ids, LABELS)),
        **compiled_ways(model),
    }
    if BACKEND == "tensorflow":
        import tensorflow as tf

        found["graph"] = lambda ids: tf.function(model)(tf.constant(ids))
        found["XLA"] = lambda ids: tf.function(model, jit_compile=True)(
            tf.constant(ids)
        )
    return found


def gives_nan(way):
    """All that is compiled; in eager calls JAX knows the values."""
    if BACKEND == "jax":
        return way not in ("call", "call in training")
    return way in ("XLA", "to be served")


def check(way, case, found, right):
    where = f"{way}, {case}: {found}"
    if not gives_nan(way):
        unsupported = "Unsupported dtype for PyTorch: uint64"
        said = f"An id is not in its field. Found: {WRONG[case][2]}".rstrip()
        assert isinstance(found, str), where
        assert said in found or (BACKEND == "torch" and found == unsupported), (
            where
        )
    elif isinstance(found, float):  # a loss
        assert np.isnan(found), where
    else:
        assert not isinstance(found, str), where
        assert np.isnan(found[1]).all(), where
        np.testing.assert_allclose(found[0::2], right[0::2], rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_wrong_id_is_an_error_or_its_row_is_nan(name):
    model = compiled(MODELS[name]())
    right = answer(model, GOOD)
    assert np.isfinite(right).all()
    of_all = ["next field", "of 64 bits"]
    # What it is called with has 32 bits.
    cases = {"jit": ["next field", "negative"]}
    if name == "FM":
        cases |= {"call": WRONG, "predict": [*of_all, "negative", "float64"]}
    for way, function in ways(model).items():
        if name != "FM" and way not in ("call", "predict"):
            continue
        for case in cases.get(way, of_all):
            found = answer(function, with_wrong(case))
            check(way, case, found, right)
        for weight in model.weights:
            assert np.isfinite(keras.ops.convert_to_numpy(weight)).all(), way


@pytest.mark.parametrize("dtype", RIGHT)
def test_ids_may_be_of_any_type_of_integer_and_whole_floats(dtype):
    model = compiled(FM([3, 4], 4))
    np.testing.assert_allclose(
        answer(model, GOOD.astype(dtype)), answer(model, GOOD), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([0, 1, -1], ""),
        ([0, -1, -1], ""),
        ([0, -2, 1], "Found: -2 in field 1 (column 1)"),
        ([0, 1, 4], "Found: 4 in field 1 (column 2)"),
        ([-1, 1, 1], "Found: -1 in field 0 (column 0)"),
    ],
)
def test_minus_one_is_no_feature_in_a_list(row, message):
    """And nothing else is."""
    lists = compiled(FM([3, 4], 4, field_lengths=[1, 2]))
    ids = np.array([[1, 2, 3], row], "int32")
    eager = answer(lists, ids)
    predicted = answer(lambda: lists.predict(ids, verbose=0))
    if not message:
        assert np.isfinite(eager).all()
        np.testing.assert_allclose(predicted, eager, atol=1e-6)
        return
    assert message in eager
    if BACKEND == "jax":
        assert np.isfinite(predicted[0])
        assert np.isnan(predicted[1])
    else:
        assert message in predicted


def test_other_numbers_of_columns_are_not_broadcast():
    model = FM([3, 4], 4)
    found = answer(model, np.zeros((3, 1), "int32"))
    assert "ids of shape (3, 1). Expected: (batch, 2)." in found


TABLE = np.where(np.arange(48).reshape(12, 4) % 3, np.linspace(1, 2, 4), 0)
TABLE[:9] *= np.arange(9)[:, None] % 2  # half of the rows hold nothing
ROWS = np.array([[1, 4, 7], [3, 6, 11], [2, 5, 8]])
LAYERS = {
    "PEPEmbedding": lambda: keras_pep.PEPEmbedding(12, 4),
    "Linear": lambda: keras_pep.layers.Linear(12),
    "MixedDimension": lambda: MixedDimensionEmbedding((4, 3, 5), (2, 4, 1), 4),
    "nothing kept": lambda: PrunedEmbedding.from_dense(0 * TABLE),
    **{
        f"{storage}, {trainable}": functools.partial(
            PrunedEmbedding.from_dense,
            TABLE,
            storage=storage,
            trainable=trainable,
        )
        for storage in ("csr", "bitmask", "dense")
        for trainable in (True, False)
    },
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_wrong_id_of_a_layer_is_an_error_or_nan(name):
    """A vector of each id, or their sum in a row."""
    layer = LAYERS[name]()
    layer.build((None, 3))
    for weight in layer.trainable_weights:
        if weight.name not in ("threshold_logits", "values"):
            values = np.linspace(1, 2, np.prod(weight.shape))
            weight.assign(values.reshape(weight.shape))
    calls = {"call": layer, **compiled_ways(layer)}
    if BACKEND == "tensorflow":
        import tensorflow as tf

        calls["graph"] = lambda ids: tf.function(layer)(tf.constant(ids))
    for wrong in (-1, 12, 2**32 + 1):
        for way, call in calls.items():
            if way == "jit" and wrong > 12:
                continue  # no 64 bits there
            right = answer(layer, ROWS)
            ids = ROWS.astype("int32" if wrong < 13 else "int64")
            ids[1, 0] = wrong
            found = answer(call, ids)
            if not gives_nan(way):
                assert "not in" in found, (way, wrong)
                continue
            place = (1, 0) if found.ndim == 3 else 1
            assert np.isnan(found[place]).all(), (way, wrong)
            found = found.copy()
            found[place] = right[place]
            np.testing.assert_allclose(found, right, rtol=1e-6)
