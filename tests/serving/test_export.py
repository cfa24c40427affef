import itertools
import json
import logging
import re
import shutil
import time
from concurrent import futures
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import keras_pep
import keras_pep.lab.cli
from keras_pep.lab import scoring
from keras_pep.lab.scoring import score_file, scorer_of_model
from keras_pep.serving import ExportError, next_version
from tests.clicks import drawn, raw_rows, write_csv
from tests.commands import processes
from tests.serving import c_runtime
from tests.serving.serving import in_c_runtime, raw_inputs

# Float32 sums in another order; logits here are around 5.
CLOSE = 1e-6


def probabilities(model, ids):
    logits = keras_pep.metrics.predict(model, ids).reshape(-1)
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def random_ids(sizes, lengths, rows, seed=0):
    random = np.random.default_rng(seed)
    columns = []
    for size, length in zip(sizes, lengths, strict=True):
        lowest = -1 if length > 1 else 0
        columns.append(random.integers(lowest, size, (rows, length)))
    return np.concatenate(columns, axis=1).astype(np.int32)


def assert_served(path, model, atol=CLOSE):
    """Ids are scored as Keras does."""
    ids = random_ids(model.field_sizes, model.field_lengths, 40)
    (answer,) = in_c_runtime(path, [("ids", {"ids": ids})])
    np.testing.assert_allclose(
        answer["probability"], probabilities(model, ids), atol=atol
    )


@pytest.fixture(scope="module")
def exported(clicks, clicks_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "clicks" / "1"
    # Of every kind of field; its names need not be identifiers.
    return keras_pep.export_saved_model(clicks_model, path, clicks)


BATCHES = (0, 1, 7, 1024)


def test_both_signatures_in_the_c_runtime(
    exported, clicks, clicks_model, tmp_path
):
    """Against Keras, and ids that NumPy and pandas have made of raw values."""
    batches = [raw_rows(size, seed=size) for size in BATCHES]
    for rows in batches[1:]:  # unknown, and of every column at once
        rows[0] = {
            "user id": "nobody",
            "city": "Ulm",
            "price": "-1e30",
            "when": "1999-12-31T23:59:59.5+01",
            "tags": "grey|grey|white",
            "seen": "999999999",
        }
    ids = [
        random_ids(clicks.field_sizes, clicks.field_lengths, size)
        for size in BATCHES
    ]
    calls = [
        ("serving_default", raw_inputs(exported.report, rows))
        for rows in batches
    ]
    calls += [("ids", {"ids": each}) for each in ids]
    answers = in_c_runtime(exported.path, calls)
    assert [list(answer) for answer in answers] == [["probability"]] * 8

    score, _ = scoring.scorer_of_model(clicks_model, clicks.vocabularies)
    assert answers[0]["probability"] == []
    for rows, answer in zip(batches[1:], answers[1:4], strict=True):
        write_csv(tmp_path / "rows.csv", rows)
        blocks = keras_pep.data.rows.blocks(
            keras_pep.data.rows.Files((tmp_path / "rows.csv",)),
            tuple(rows[0]),
            keras_pep.data.rows.Malformed(),
        )
        expected = np.concatenate([score(block) for block in blocks])
        np.testing.assert_allclose(answer["probability"], expected, atol=CLOSE)
        assert len({*np.round(expected, 4)}) > len(rows) / 3  # not all alike
    assert answers[4]["probability"] == []
    for batch, answer in zip(ids[1:], answers[5:], strict=True):
        np.testing.assert_allclose(
            answer["probability"],
            probabilities(clicks_model, batch),
            atol=CLOSE,
        )


def test_movielens_at_97_percent_equals_keras(small_movielens, tmp_path):
    """Fields whose values are integers, and which have no id for others."""
    data = keras_pep.data.load("movielens", small_movielens)
    model = keras_pep.models.FM(data.field_sizes, 64)
    model.build()
    drawn(model, density=0.05)
    assert model.embedding.sparsity() > 0.965
    result = keras_pep.export_saved_model(model, tmp_path / "1", data)
    ids = data.test.ids
    raw = {
        name: np.array([vocabulary[number] for number in column])
        for (name, vocabulary), column in zip(
            data.vocabularies.items(), ids.T, strict=True
        )
    }
    assert result.report["fields"][0]["input"] == "int64"
    # Nobody: neither a vector nor a weight, and a bias.
    nobody = {
        name: np.array(
            [-5] if values.dtype.kind in "iu" else ["?"], values.dtype
        )
        for name, values in raw.items()
    }
    by_id, by_value, of_nobody = in_c_runtime(
        result.path,
        [
            ("ids", {"ids": ids}),
            ("serving_default", raw),
            ("serving_default", nobody),
        ],
    )
    expected = probabilities(model, ids)
    np.testing.assert_allclose(by_id["probability"], expected, atol=CLOSE)
    np.testing.assert_allclose(by_value["probability"], expected, atol=CLOSE)
    bias = 1 / (1 + np.exp(-float(model.first_order.bias[0])))
    assert of_nobody["probability"] == pytest.approx([bias], abs=CLOSE)


def test_an_id_out_of_its_field_makes_its_row_nan(plain):
    """An error would end the requests that a server has merged with it."""
    _, path = plain
    good = random_ids((4, 4), (1, 1), 9)
    wrong = [-1, 4, 2**31 - 1, -(2**31)]
    every = [good]
    for field, value in itertools.product((0, 1), wrong):
        bad = good.copy()
        bad[4, field] = value
        every.append(bad)
    calls = [("ids", {"ids": ids}) for ids in every]
    expected, *answers = in_c_runtime(path, calls)
    expected["probability"][4] = np.nan
    loaded = tf.saved_model.load(str(path)).signatures["ids"]
    for bad, answer in zip(every[1:], answers, strict=True):
        # Not close: no other row may notice.
        np.testing.assert_array_equal(
            answer["probability"], expected["probability"]
        )
        np.testing.assert_allclose(
            loaded(ids=tf.constant(bad))["probability"],
            expected["probability"],
            atol=CLOSE,
        )


def test_ids_that_only_the_served_model_has_are_out_of_range(
    small_movielens, tmp_path
):
    """Its fields have an id more, which counts nothing, for unknown values."""
    data = keras_pep.data.load("movielens", small_movielens)
    assert not any(v.unknown for v in data.vocabularies.values())
    model = keras_pep.models.FM(data.field_sizes, 4)
    model.build()
    made = keras_pep.export_saved_model(model, tmp_path / "1", data)
    ids = np.zeros((len(data.field_sizes), len(data.field_sizes)), np.int32)
    np.fill_diagonal(ids, np.array(data.field_sizes))
    last = ids - np.eye(len(ids), dtype=np.int32)
    above, within = in_c_runtime(
        made.path, [("ids", {"ids": ids}), ("ids", {"ids": last})]
    )
    assert np.isnan(above["probability"]).all()
    np.testing.assert_allclose(
        within["probability"], probabilities(model, last), atol=CLOSE
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A model of two fields, exported without a dataset."""
    model = keras_pep.models.FM((4, 4), 8)
    model.build()
    drawn(model)
    path = tmp_path_factory.mktemp("plain") / "1"
    keras_pep.export_saved_model(model, path)
    return model, path


def test_without_a_dataset_there_are_ids(plain):
    model, path = plain
    ids = random_ids((4, 4), (1, 1), 5)
    answers = in_c_runtime(
        path, [("ids", {"ids": ids}), ("serving_default", {"ids": ids})]
    )
    for answer in answers:
        np.testing.assert_allclose(
            answer["probability"], probabilities(model, ids), atol=CLOSE
        )


def test_what_is_not_as_it_should_be_is_answered_or_refused(exported):
    row = raw_rows(1)[0]
    good = raw_inputs(exported.report, [row])

    def call(**other):
        return "serving_default", {**good, **other}

    strange = [
        call(seen=np.array([value]))
        for value in (np.nan, np.inf, -np.inf, 2.5, 1e300)
    ]
    strange += [
        call(price=np.array([value])) for value in (np.nan, np.inf, -np.inf)
    ]
    times = (
        "",
        "NaN",
        "yesterday",
        "2026-02-30",
        "2026-11-22T25:00",
        "1e9",
        "9",
    )
    long = "9" * 400  # of no float64, and no int64
    times += ("1e999", "-1e999", long, f"{long}-01-01", "2026-11-22+99:99")
    for text in times:
        both = {
            f"when_{part}": np.array([text]) for part in ("hour", "weekday")
        }
        strange.append(call(**both))
    strange += [
        call(tags=np.array([text])) for text in ("", "|", "||a|||a", "x|" * 300)
    ]
    strange += [
        call(**{"user id": np.array([text])}) for text in ("", "\n", "ü" * 5000)
    ]
    refused = [
        call(price=np.array([1.0], dtype=np.float32)),
        call(price=np.array(["cheap"])),
        call(city=np.array([5])),
        ("serving_default", {k: v for k, v in good.items() if k != "city"}),
        call(country=np.array(["France"])),
        call(city=np.array(["Paris", "Paris"])),
        call(city=np.array([["Paris"]])),
        ("no such signature", good),
        ("ids", {"ids": np.zeros((1, 2), dtype=np.int32)}),
        ("ids", {"ids": np.zeros((1, 8), dtype=np.int64)}),
    ]
    answers = in_c_runtime(exported.path, [*strange, *refused])
    for asked, answer in zip(strange, answers, strict=False):
        (probability,) = answer["probability"]
        assert 0 < probability < 1, asked
    for asked, answer in zip(refused, answers[len(strange) :], strict=True):
        assert answer.get("error"), asked


# What may stand in a text: numbers and times that are none, or hardly.
ODD_TEXTS = [
    *(b"", b" ", b"\n", b"\r\n", b"\\N", b"\\", b"NaN", b"NULL", b"<NA>", b"-"),
    *(b"\xff\xfe", b"a\xff", b"\xc3", b"\x00", b"\x00a", b"na\x00"),
    *(b"9" * 400, b"-" + b"9" * 400, b"0" * 400, b"." + b"1" * 400),
    *(b"1e999", b"-1e999", b"1e-999", b"1e9999999999999999999", b"1e+00001"),
    *(b"0x10", b"1_000", b"1,5", b"Infinity", b"-inf", b"--5", b"+5", b"+"),
    *(b".", b".5", b"5.", b"e5", b".e5", b"5.e", b"1E+400", b" 7 ", b"7.0"),
    *(b"%d" % 2**63, b"%d" % -(2**63), b"%d" % 2**64, b"1500000000000000000"),
    *(b"1500000000", b"1500000000000", b"99999999", b"-1", b"1e9", b"1.5e9"),
    # Digits that are not those of ASCII.
    *(
        b"\xd9\xa1\xd9\xa5",
        b"\xef\xbc\x92026-01-01",
        b"\xd9\xa1e5",
        b"\xc2\xbd",
    ),
    *(b"2026-02-30", b"2026-13-01", b"0000-00-00", b"0000-01-01 00:00Z"),
    *(b"9999-12-31 23:59:59+00:01", b"0001-01-01 00:00+23:59"),
    *(b"9999-99-99 99:99", b"2026-11-22 10:00+99:99", b"2026-11-22T"),
    *(b"2026-11-22 10:00:00." + b"9" * 400, b"20261122" * 1000),
    *(b"22/Nov/2026:10:00:00 +0100", b"11/22/2026 12:60 PM", b"Feb 30 2026"),
    *(
        b"|",
        b"|" * 1000,
        b"x|" * 1000,
        b"|".join([b"%d" % n for n in range(999)]),
    ),
    b"a" * 1_000_000,
]


def test_no_text_ends_a_batch(exported):
    """Of any field that takes text, among rows that do not notice."""
    model = c_runtime.SavedModel(exported.path)
    (row,) = raw_rows(1, seed=2)
    good = raw_inputs(exported.report, [row] * (len(ODD_TEXTS) + 2))
    expected = model("serving_default", good)["probability"]
    assert (expected == expected[0]).all()
    for field in exported.report["fields"]:
        name = field["name"]
        if field["input"] == "string":
            odd = np.array([good[name][0], *ODD_TEXTS, good[name][0]], object)
            found = model("serving_default", {**good, name: odd})["probability"]
            assert found[[0, -1]].tolist() == expected[[0, -1]].tolist()
            assert ((found > 0) & (found < 1)).all()


def test_no_number_ends_a_batch(exported):
    model = c_runtime.SavedModel(exported.path)
    numbers = [np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, 1e308, -1e308]
    numbers += [2.0**53, -(2.0**53), 2.0**63, 2.0**64, 2.5, -1.0, 1e18]
    (row,) = raw_rows(1, seed=2)
    good = raw_inputs(exported.report, [row] * (len(numbers) + 2))
    expected = model("serving_default", good)["probability"]
    for name in ("price", "seen"):
        odd = np.array([good[name][0], *numbers, good[name][0]])
        found = model("serving_default", {**good, name: odd})["probability"]
        assert found[[0, -1]].tolist() == expected[[0, -1]].tolist()
        assert ((found > 0) & (found < 1)).all()


def test_text_that_is_no_text_is_unknown(exported):
    """Bytes that are no UTF-8, among rows that do not notice."""
    model = c_runtime.SavedModel(exported.path)
    good = raw_inputs(exported.report, raw_rows(3, seed=2))

    def scored(field, value):
        values = good[field].astype(object)
        values[1] = value
        inputs = {**good, field: values}
        return model("serving_default", inputs)["probability"]

    for field in ("user id", "city", "tags", "when_hour", "when_weekday"):
        expected = scored(field, "no such value")
        for value in (b"\xff\xfe", b"a\xff", b"\xc3", b"\x00", b"\x00a"):
            np.testing.assert_array_equal(scored(field, value), expected)


def test_missing_and_malformed_numbers_are_not_the_same(exported):
    """NaN is missing, which training has seen; 2.5 was no count there."""
    good = raw_inputs(exported.report, raw_rows(1))
    calls = [
        ("serving_default", {**good, "seen": np.array([value])})
        for value in (np.nan, 2.5, 987_654_321.0, 1200.0, 1201.0)
    ]
    nan, half, unknown, many, more = (
        answer["probability"] for answer in in_c_runtime(exported.path, calls)
    )
    assert half == unknown
    assert many == more  # of one bin: floor(log(v)**2) is 50
    assert len({*nan, *half, *many}) == 3


def refusals(path, calls):
    answers = in_c_runtime(path, calls)
    assert all([*answer] == ["error"] for answer in answers), answers
    return [answer["error"] for answer in answers]


def test_ids_of_a_wrong_shape_are_refused(exported):
    shapes = {
        "(3, 1)": (3, 1),  # not broadcast over all columns
        "(3, 12)": (3, 12),
        "(11)": (11,),
        "()": (),
        "(3, 11, 1)": (3, 11, 1),
        "(0, 1)": (0, 1),
    }
    errors = refusals(
        exported.path,
        [
            ("ids", {"ids": np.zeros(shape, dtype=np.int32)})
            for shape in shapes.values()
        ],
    )
    expected = "An input has the wrong shape. ids: expected (rows, 11), found "
    for found, error in zip(shapes, errors, strict=True):
        assert f"[{expected}{found}]" in error


def test_raw_values_of_a_wrong_shape_are_refused(exported):
    """As REST has them of a list for each row, or of too few."""
    good = raw_inputs(exported.report, raw_rows(2))

    def call(**other):
        return "serving_default", {**good, **other}

    one, two, scalar, fewer = refusals(
        exported.path,
        [
            call(price=np.array([[1.0], [2.0]])),
            call(
                price=np.array([[1.0], [2.0]]),
                **{"user id": np.array([["1", "2"]], dtype=object)},
            ),
            call(city=np.array("Paris", dtype=object)),
            call(seen=np.array([1.0])),
        ],
    )
    wrong = "An input has the wrong shape. "
    assert f"[{wrong}price: expected (rows), found (2, 1)]" in one
    assert (
        f"[{wrong}user id: expected (rows), found (1, 2); "
        "price: expected (rows), found (2, 1)]" in two
    )
    assert f"[{wrong}city: expected (rows), found ()]" in scalar
    assert "All inputs must have the same number of rows. user id: " in fewer
    assert "seen: expected (rows), found (1)" in fewer
    assert "price: expected (rows), found (2)" in fewer


def functional():
    """A model of one's own: a list of pages, and a price."""
    pages = keras.Input((2,), dtype="int32", name="pages")
    price = keras.Input((1,), name="a price")
    table = np.random.default_rng(0).normal(size=(9, 4)).astype("float32")
    table[:, 1:3] = 0
    one = keras_pep.PrunedEmbedding.from_dense(table, name="table")
    two = keras.layers.Embedding(9, 3, name="other")
    hidden = keras.layers.Concatenate()(
        [
            keras.layers.Flatten()(one(pages)),
            keras.layers.Flatten()(two(pages)),
            price,
        ]
    )
    outputs = keras.layers.Dense(1, name="score")(hidden)
    return keras.Model([pages, price], outputs)


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_a_functional_model_answers_unknown_ids_with_nan(quantize, tmp_path):
    model = functional()
    made = keras_pep.export_saved_model(
        model, tmp_path / "1", quantize=quantize
    )
    pages = np.array([[0, 3], [8, 8], [1, 2], [4, 5]], dtype=np.int32)
    price = np.ones((4, 1), np.float32)
    wrong = pages.copy()
    wrong[1, 0], wrong[3, 1] = 9, -1
    right, answer = (
        answer["score"]
        for answer in in_c_runtime(
            made.path,
            [
                ("serving_default", {"pages": ids, "a price": price})
                for ids in (pages, wrong)
            ],
        )
    )
    assert np.isfinite(right).all()
    np.testing.assert_array_equal(
        answer, [right[0], [np.nan], right[2], [np.nan]]
    )


def test_a_functional_model_refuses_wrong_shapes(tmp_path):
    made = keras_pep.export_saved_model(functional(), tmp_path / "1")
    pages, price = np.zeros((3, 2), np.int32), np.zeros((3, 1), np.float32)
    wide, flat, fewer = refusals(
        made.path,
        [
            ("serving_default", {"pages": pages[:, :1], "a price": price}),
            ("serving_default", {"pages": pages, "a price": price[:, 0]}),
            ("serving_default", {"pages": pages, "a price": price[:1]}),
        ],
    )
    assert "[An input has the wrong shape. pages: expected (rows, 2), " in wide
    assert "a price: expected (rows, 1), found (3)]" in flat
    assert (
        "[All inputs must have the same number of rows. pages: expected "
        "(rows, 2), found (3, 2); a price: expected (rows, 1), found (1, 1)]"
        in fewer
    )


def test_shapes_are_in_the_signature(exported):
    """Though the graph takes any, to be able to refuse them."""
    signatures = keras_pep.serving.describe(exported.path).signatures
    assert signatures["ids"].inputs["ids"].shape == (-1, 11)
    inputs = signatures["serving_default"].inputs
    assert {info.shape for info in inputs.values()} == {(-1,)}
    (output,) = signatures["ids"].outputs.values()
    assert output.shape == (-1,)


PYTHON_OPS = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}


def nodes(path):
    """All operations, functions' too."""
    content = (path / "saved_model.pb").read_bytes()
    model = saved_model_pb2.SavedModel.FromString(content)
    graph = model.meta_graphs[0].graph_def
    functions = {f.signature.name for f in graph.library.function}
    return [
        node
        for each in (graph.node, *(f.node_def for f in graph.library.function))
        for node in each
        if node.op not in functions
    ]


def operations(path):
    """Types of all operations, functions' too."""
    return {node.op for node in nodes(path)}


def test_no_operation_refuses_what_a_row_holds(exported, plain, tmp_path):
    """Shapes alone are refused: they are the same for all rows of a batch."""
    own = keras_pep.export_saved_model(functional(), tmp_path / "1")
    for path, signatures in ((exported.path, 2), (plain[1], 1), (own.path, 1)):
        found = [n.name for n in nodes(path) if n.op == "Assert"]
        assert [name.rpartition("/")[2] for name in found] == [
            "right_shapes"
        ] * signatures


def test_the_graph_has_standard_ops_alone(exported, plain):
    known = {
        name
        for name in dir(tf.raw_ops)
        if name[0].isupper() and name not in PYTHON_OPS
    }
    for path in (exported.path, plain[1]):
        assert operations(path) <= known


def test_a_python_op_is_found_by_both(tmp_path):
    """The negative control: it loads, and fails only when it is run."""
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.int32, "ids")])
    def score(ids):
        doubled = tf.numpy_function(lambda x: 2 * x, [ids], tf.int32)
        return {"probability": tf.cast(doubled, tf.float32)}

    tf.saved_model.save(module, str(tmp_path), signatures={"ids": score})
    assert operations(tmp_path) & PYTHON_OPS
    (answer,) = in_c_runtime(
        tmp_path, [("ids", {"ids": np.zeros((1, 2), dtype=np.int32)})]
    )
    assert "PyFunc" in answer["error"]


def test_every_variable_is_written_once(exported):
    variables = str(exported.path / "variables" / "variables")
    written = sum(
        int(np.prod(shape))
        * tf.train.load_checkpoint(variables)
        .get_variable_to_dtype_map()[name]
        .size
        for name, shape in tf.train.list_variables(variables)
        if not name.startswith(("_CHECKPOINTABLE", "save_counter"))
    )
    report = exported.report
    # Six ids more: none, as every field of this dataset has one for unknown.
    assert written == report["table_bytes"] + report["other_bytes"]
    assert report["files_bytes"] == sum(
        path.stat().st_size
        for path in exported.path.rglob("*")
        if path.is_file()
    )


@pytest.mark.parametrize(
    ("kind", "quantize"),
    [
        *(("lr", "float16"), ("fvfm", "int8"), ("deepfm", "float16")),
        *(("dcn", None), ("autoint", None), ("autoint+", "int8")),
        ("gem", "float16"),
    ],
)
def test_every_model_and_every_type(kind, quantize, tmp_path):
    sizes = (7, 50, 3)
    settings = {"hidden_units": (8,), "dropout": 0.1}
    model = {
        "lr": lambda: keras_pep.models.LogisticRegression(sizes),
        "fvfm": lambda: keras_pep.models.FvFM(sizes, 8),
        "gem": lambda: keras_pep.models.GEM(sizes, 8),
        "dcn": lambda: keras_pep.models.DCN(sizes, 8, **settings),
        "deepfm": lambda: keras_pep.models.DeepFM(sizes, 8, **settings),
        "autoint": lambda: keras_pep.models.AutoInt(sizes, 8),
        "autoint+": lambda: keras_pep.models.AutoInt(sizes, 8, **settings),
    }[kind]()
    model.build()
    drawn(model)
    result = keras_pep.export_saved_model(
        model, tmp_path / "1", quantize=quantize
    )
    # Of 0.5, a float16 is 2e-4 off at most, an eighth of an int8 4e-3, and
    # logits are sums of products of them.
    close = {None: CLOSE, "float16": 2e-3, "int8": 2e-2}[quantize]
    assert_served(result.path, model, close)
    kept = model.embedding.nonzero_parameters()
    table = result.report["tables"]["embedding"]
    assert table["kept_parameters"] == kept
    assert table["values"] == (quantize or "float32")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
@pytest.mark.filterwarnings("ignore:.* cannot be quantized")
@pytest.mark.parametrize(
    ("mode", "quantize"), [("int8", None), ("int4", "int8")]
)
def test_a_table_that_keras_has_quantized(mode, quantize, tmp_path):
    """It is served with the values that it had then."""
    sizes = (7, 50, 3)
    model = keras_pep.models.DeepFM(sizes, 8, embedding="dense")
    model.build()
    drawn(model)
    model.quantize(mode)
    assert model.embedding.quantization_mode == mode
    result = keras_pep.export_saved_model(
        model, tmp_path / "1", quantize=quantize
    )
    # As above.
    assert_served(result.path, model, CLOSE if quantize is None else 2e-2)
    table = result.report["tables"]["embedding"]
    assert (table["rows"], table["columns"]) == (60, 8)


@pytest.mark.parametrize(
    "kind", [keras.layers.Embedding, keras_pep.layers.RowEmbedding]
)
def test_a_functional_model_of_ones_own(kind, tmp_path):
    ids = keras.Input((2,), dtype="int32", name="pages")
    price = keras.Input((1,), name="price")
    one = keras_pep.PrunedEmbedding.from_dense(
        np.eye(9, 4, dtype="float32"), name="table"
    )
    two = kind(9, 3, name="other")
    hidden = keras.layers.Concatenate()(
        [
            keras.layers.Flatten()(one(ids)),
            keras.layers.Flatten()(two(ids)),
            keras.layers.Normalization(mean=1.0, variance=4.0)(price),
        ]
    )
    outputs = keras.layers.Dense(1, name="score")(hidden)
    model = keras.Model([ids, price], outputs)
    result = keras_pep.export_saved_model(model, tmp_path / "1")
    assert result.report["tables"]["table"]["kept_parameters"] == 4
    assert result.report["tables"]["other"]["kept_parameters"] == 27
    inputs = {
        "pages": np.array([[0, 3], [8, 8]], dtype=np.int32),
        "price": np.array([[0.5], [2.0]], dtype=np.float32),
    }
    (answer,) = in_c_runtime(result.path, [("serving_default", inputs)])
    expected = model.predict([inputs["pages"], inputs["price"]], verbose=0)
    np.testing.assert_allclose(answer["score"], expected, atol=CLOSE)


def test_an_embedding_of_another_kind_keeps_all_its_features(clicks, tmp_path):
    """What it holds of a feature cannot be told."""
    features = clicks.feature_count
    table = keras.layers.Embedding(features, 8)
    inside = keras.Sequential([keras.Input((None,)), table])
    inside.name = "embedding"
    model = keras_pep.models.FM(
        clicks.field_sizes, 8, inside, field_lengths=clicks.field_lengths
    )
    model.build()  # first-order weights are zero
    result = keras_pep.export_saved_model(model, tmp_path / "1", clicks)
    for field, vocabulary in zip(
        result.report["fields"], clicks.vocabularies.values(), strict=True
    ):
        assert field["vocabulary"] == len(vocabulary.values)
    assert_served(result.path, model)


# And what their tensors are called in TensorFlow's errors.
NAMES = {
    "C14": "C14",
    "class": "class_",
    "a": "a",
    "A": "A_2",
    "user id": "user_id",
    "user-id": "user_id_2",
    "user_id_2": "user_id_2_2",
    "input_0": "input_0",
    "self": "self_2",
    "Größe": "Gr__e",
    "x/y": "x_y",
    "": "input_",
    "7": "input_7",
    "_x": "input__x",
}


@pytest.fixture(scope="module")
def oddly_named(tmp_path_factory):
    vocabularies = {
        name: keras_pep.data.Vocabulary(
            keras_pep.data.Field(name, name), np.array(["u", "v"], object)
        )
        for name in NAMES
    }
    model = keras_pep.models.FM((2,) * len(NAMES), 4)
    model.build()
    drawn(model)
    path = tmp_path_factory.mktemp("names") / "1"
    return model, keras_pep.export_saved_model(model, path, vocabularies)


def test_fields_may_have_any_name(oddly_named):
    model, result = oddly_named
    ids = random_ids(model.field_sizes, model.field_lengths, 5)
    raw = {
        name: np.array(["u", "v"])[column]
        for name, column in zip(NAMES, ids.T, strict=True)
    }
    (answer,) = in_c_runtime(result.path, [("serving_default", raw)])
    expected = probabilities(model, ids)
    np.testing.assert_allclose(answer["probability"], expected, atol=CLOSE)
    loaded = tf.saved_model.load(str(result.path))
    found = loaded.signatures["serving_default"](
        **{NAMES[name]: tf.constant(values) for name, values in raw.items()}
    )
    np.testing.assert_allclose(found["probability"], expected, atol=CLOSE)


def test_tensors_are_named_after_their_fields(oddly_named):
    """As errors of the server name them."""
    _, result = oddly_named
    signatures = keras_pep.serving.describe(result.path).signatures
    inputs = signatures["serving_default"].inputs
    assert {name: info.name for name, info in inputs.items()} == {
        name: f"serving_default_{argument}:0"
        for name, argument in NAMES.items()
    }
    loaded = tf.saved_model.load(str(result.path))
    with pytest.raises(TypeError, match=r"missing.*\bC14\b.*\buser_id\b"):
        loaded.signatures["serving_default"]()
    wrong = {name: np.array(["u"], object) for name in NAMES}
    wrong["user id"] = np.array([["u"]], object)
    (error,) = refusals(result.path, [("serving_default", wrong)])
    assert "shape. user id: expected (rows), found (1, 1)]" in error


def test_inputs_of_a_functional_model_may_have_any_name(tmp_path):
    inputs = {
        name: keras.Input((1,), name=name) for name in ("user id", "class")
    }
    total = keras.layers.Add()([*inputs.values()])
    model = keras.Model(inputs, {"sum": total})
    result = keras_pep.export_saved_model(model, tmp_path / "1")
    values = {
        "user id": np.array([[1.0]], dtype=np.float32),
        "class": np.array([[2.5]], dtype=np.float32),
    }
    (answer,) = in_c_runtime(result.path, [("serving_default", values)])
    assert [*answer.values()] == [[[3.5]]]


@pytest.mark.parametrize("linear", ["dense", "pep"])
def test_half_precision_is_the_models_own(linear, tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = keras_pep.models.FM((5, 9), 8, linear=linear)
        model.build()
        drawn(model)
        result = keras_pep.export_saved_model(model, tmp_path / "1")
    finally:
        keras.config.set_dtype_policy("float32")
    assert_served(result.path, model)


def test_the_c_runtime_takes_several_threads(plain):
    """Some of whose calls fail."""
    model = c_runtime.SavedModel(plain[1])
    good = {"ids": np.zeros((4, 2), dtype=np.int32)}
    bad = {"ids": np.full((4, 1), 99, dtype=np.int32)}
    expected = model("ids", good)["probability"]

    def ask(number):
        for _ in range(200):
            if number % 2:
                np.testing.assert_array_equal(
                    model("ids", good)["probability"], expected
                )
            else:
                with pytest.raises(c_runtime.ServingError, match="wrong shape"):
                    model("ids", bad)

    with futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))


@pytest.mark.slow
def test_features_of_nothing_leave_the_vocabulary(clicks, tmp_path):
    """If asked, or where that changes nothing; their ids count nothing."""
    model = keras_pep.models.LogisticRegression(
        clicks.field_sizes, field_lengths=clicks.field_lengths
    )
    model.build()
    weights = np.arange(1.0, 1 + clicks.feature_count)[:, None] / 50
    first = [*clicks.vocabularies["user id"]]
    gone = 3  # of the first field
    weights[gone] = 0.0
    model.embedding.embeddings.assign(weights)
    rows = raw_rows(1)
    calls, results = [], {}
    for keep in (False, True, None):
        result = keras_pep.export_saved_model(
            model, tmp_path / f"{keep}" / "1", clicks, keep_vocabulary=keep
        )
        (path,) = result.path.glob("assets/vocabulary-0-user_id.tsv")
        lines = path.read_text().splitlines()
        left = keep is False
        assert (f"{first[gone]}\t{gone}" in lines) is not left
        assert len(lines) == len(first) - 1 - left
        assert result.report["fields"][0]["now_unknown"] == left
        calls = [
            (
                "serving_default",
                raw_inputs(result.report, [{**rows[0], "user id": user}]),
            )
            for user in (first[gone], "nobody")
        ]
        answers = in_c_runtime(result.path, calls)
        results[keep] = [answer["probability"][0] for answer in answers]
    assert results[False][0] == results[False][1] == results[True][1]
    assert results[None] == results[True]
    logits = [np.log(p / (1 - p)) for p in results[True]]
    assert logits[1] - logits[0] == pytest.approx(weights[0, 0], abs=1e-4)

    weights[0] = 0.0  # now unknown values count as much
    model.embedding.embeddings.assign(weights)
    result = keras_pep.export_saved_model(model, tmp_path / "1", clicks)
    (path,) = result.path.glob("assets/vocabulary-0-user_id.tsv")
    assert len(path.read_text().splitlines()) == len(first) - 2
    assert result.report["fields"][0]["now_unknown"] == 0


def test_a_saved_model_that_lacks_a_file_is_damaged(exported, tmp_path):
    folder = shutil.copytree(exported.path, tmp_path / "1")
    description = keras_pep.serving.describe(folder)
    (variables,) = folder.glob("variables/*.data*")
    vocabulary = next(folder.glob("assets/*.tsv"))
    for path, left in ((vocabulary, 0.0), (variables, 0.5), (variables, 0.0)):
        before = path.read_bytes()
        path.unlink()
        if left:
            path.write_bytes(before[: int(left * len(before))])
        with pytest.raises(ExportError) as raised:
            scoring.scorer_of_saved_model(description)
        assert re.fullmatch(
            rf"{re.escape(str(folder))} is damaged: .+", str(raised.value)
        )
        path.write_bytes(before)
    scoring.scorer_of_saved_model(description)


def test_nothing_of_linux_alone_is_needed():
    """TensorFlow's own loader is on every platform, its C library is not."""
    for package in (keras_pep, keras_pep.lab.cli):
        for path in Path(package.__file__).parent.rglob("*.py"):
            assert "libtensorflow" not in path.read_text(), path


def test_a_version_that_exists_is_refused(plain, tmp_path):
    model, _ = plain
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "kept").write_text("")
    with pytest.raises(ExportError, match="exists"):
        keras_pep.export_saved_model(model, tmp_path / "1")
    assert [path.name for path in tmp_path.rglob("*")] == ["1", "kept"]
    (tmp_path / "10").mkdir()
    (tmp_path / "99.partial").mkdir()
    assert next_version(tmp_path) == 11
    assert next_version(tmp_path / "no such folder") == 1


def test_where_nothing_can_be_written(plain, tmp_path):
    model, _ = plain
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be written"):
        keras_pep.export_saved_model(model, tmp_path / "file" / "1")


def test_a_full_disk_is_no_lack_of_memory(plain, tmp_path, monkeypatch):
    """TensorFlow has one kind of error for both."""

    def save(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left")

    monkeypatch.setattr("tensorflow.saved_model.save", save)
    with pytest.raises(ExportError, match="cannot be written: No space left"):
        keras_pep.export_saved_model(plain[0], tmp_path / "1")
    assert not any(tmp_path.iterdir())


def export_large(path):
    model = keras_pep.models.FM((40_000, 40_000), 8, embedding="dense")
    model.build()
    keras_pep.export_saved_model(model, path)


@pytest.mark.slow
def test_a_killed_export_leaves_no_version(plain, tmp_path):
    """Whenever it is killed, TensorFlow Serving finds a whole one or none."""
    found = set()
    for delay in (0.02, 0.3):
        process = processes.Process(target=export_large, args=[tmp_path / "1"])
        process.start()
        while not any(tmp_path.iterdir()) and process.is_alive():
            time.sleep(0.001)
        time.sleep(delay)
        process.kill()
        process.join()
        names = {path.name for path in tmp_path.iterdir()}
        found |= {name.partition(".")[0] + name[-8:] for name in names}
        if "1" in names:
            break
    assert found & {"1.partial"}  # one was in the middle of it
    keras_pep.export_saved_model(plain[0], tmp_path / "2")
    if not (tmp_path / "1").exists():
        keras_pep.export_saved_model(plain[0], tmp_path / "1")
    assert {path.name for path in tmp_path.iterdir()} == {"1", "2"}
    answers = in_c_runtime(
        tmp_path / "1", [("ids", {"ids": np.zeros((1, 2), np.int32)})]
    )
    assert "probability" in answers[0]


def test_the_warm_up_request_is_one_that_is_answered(exported):
    pytest.importorskip("tensorflow_serving", exc_type=ImportError)
    from tensorflow_serving.apis import prediction_log_pb2

    name = "tf_serving_warmup_requests"
    path = exported.path / "assets.extra" / name
    (record,) = tf.compat.v1.io.tf_record_iterator(str(path))
    log = prediction_log_pb2.PredictionLog.FromString(record)
    request = log.predict_log.request
    inputs = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
    inputs = {
        k: np.char.decode(v.astype(bytes)) if v.dtype == object else v
        for k, v in inputs.items()
    }
    (answer,) = in_c_runtime(
        exported.path, [(request.model_spec.signature_name, inputs)]
    )
    assert 0 < answer["probability"][0] < 1


def test_what_cannot_be_exported_says_why(plain, clicks, tmp_path):
    model, _ = plain
    with pytest.raises(ValueError, match="quantize='int4'"):
        keras_pep.export_saved_model(model, tmp_path / "1", quantize="int4")
    with pytest.raises(ValueError, match="other fields"):
        keras_pep.export_saved_model(model, tmp_path / "1", clicks)
    other = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match=r"keras_pep\.models"):
        keras_pep.export_saved_model(other, tmp_path / "1", clicks)
    assert not any(tmp_path.iterdir())


def test_the_description_is_in_the_directory(exported):
    path = exported.path / "assets.extra" / "keras_pep.json"
    content = json.loads(path.read_text())
    assert {**content, "files_bytes": exported.report["files_bytes"]} == {
        **exported.report
    }


def test_a_saved_model_says_what_it_knows(
    exported, clicks, clicks_model, tmp_path, caplog
):
    description = keras_pep.serving.describe(exported.path)
    found = scoring.vocabularies_of(description)
    # Not of fields whose vocabulary lacks what was pruned away.
    whole = [
        field["name"]
        for field in exported.report["fields"]
        if field["vocabulary"] >= field["features"] - 1
    ]
    assert [each.field.name for each in found] == whole
    assert {"city", "price", "tags"} < {*whole}
    for vocabulary in found:
        known = clicks.vocabularies[vocabulary.field.name]
        assert vocabulary.field.edges == known.field.edges
        assert vocabulary.to_dict()["values"] == [*map(str, known)][1:]

    row = raw_rows(1)[0]
    write_csv(tmp_path / "rows.csv", [{**row, "city": "nowhere"}])
    score, columns = scoring.scorer_of_saved_model(description)
    caplog.set_level(logging.INFO, "keras_pep")
    score_file(
        *(score, columns, tmp_path / "rows.csv", tmp_path / "scores.csv"),
        vocabularies=found,
    )
    (note,) = [note for note in caplog.messages if note.startswith("city")]
    assert "city: of 1 rows 0 have a value" in note
    assert "found such as 'nowhere', expected such as " in note

    write_csv(tmp_path / "rows.csv", [{**row, "when": "soon"}])
    for scorer in (
        scoring.scorer_of_saved_model(description),
        scorer_of_model(clicks_model, clicks.vocabularies),
    ):
        with pytest.raises(
            keras_pep.data.DataError,
            match="row 1: found 'soon' in column 'when', expected a time: 2026",
        ):
            score_file(*scorer, tmp_path / "rows.csv", tmp_path / "other.csv")


def test_a_value_is_one_in_every_spelling_and_every_file(tmp_path):
    """A frame with gaps as CSV, as Parquet, and asked of a server."""
    random = np.random.default_rng(0)
    user = random.integers(100, 112, 400).astype(float)
    user[::7] = np.nan
    frame = pd.DataFrame({"user": user, "seen": user % 2 == 0})
    frame["day"] = pd.to_datetime("2026-11-07") + pd.to_timedelta(
        random.integers(0, 5, 400), unit="D"
    )
    frame["label"] = random.integers(0, 2, 400)
    frame.to_csv(tmp_path / "clicks.csv", index=False)
    frame.to_parquet(tmp_path / "clicks.parquet", index=False)
    dataset = keras_pep.data.load(
        tmp_path / "clicks.csv",
        label="label",
        fields=["user", "seen", "day:category"],
        min_count=1,
    )
    model = keras_pep.models.FM(dataset.field_sizes, 4)
    model.build()
    drawn(model, density=1.0)
    score, columns = scorer_of_model(model, dataset.vocabularies)
    found = []
    for name in ("clicks.csv", "clicks.parquet"):
        target = tmp_path / f"{name}.scores.csv"
        assert score_file(score, columns, tmp_path / name, target) == 400
        found.append(pd.read_csv(target)["probability"].to_numpy())
    np.testing.assert_array_equal(*found)
    result = keras_pep.export_saved_model(model, tmp_path / "1", dataset)
    row = int(np.flatnonzero(user == 107)[0])
    day = f"{frame['day'][row]:%Y-%m-%d}"
    spellings = [
        ("107", "false", day),
        ("107.0", "False", f"{day} 00:00:00"),
        (" 1.07E+2", "FALSE", f"{day}T00:00"),
        ("107.000", "false", f"{day} 00:00:00.000000000"),
    ]
    inputs = dict(
        zip(columns, np.array(spellings, dtype=object).T, strict=True)
    )
    (answer,) = in_c_runtime(result.path, [("serving_default", inputs)])
    np.testing.assert_allclose(
        answer["probability"], [found[0][row]] * 4, atol=CLOSE
    )
    # Another user is another value, and so are leading zeros.
    inputs["user"] = np.array(["108", "0107", "1070", "nobody"], object)
    (other,) = in_c_runtime(result.path, [("serving_default", inputs)])
    assert abs(other["probability"][0] - found[0][row]) > 1e-3
    assert len(set(other["probability"][1:])) == 1
