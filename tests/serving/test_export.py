import json
import os
import signal
import subprocess
import sys
import time
from concurrent import futures

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import keras_pep
from keras_pep.serving import ExportError, next_version
from keras_pep.serving.predict import score_file, scorer_of_model
from tests.clicks import drawn, raw_rows, write_csv
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

    score, _ = keras_pep.serving.scorer_of_model(
        clicks_model, clicks.vocabularies
    )
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


@pytest.mark.parametrize("wrong", [-1, 4, 2**31 - 1])
@pytest.mark.parametrize("field", [0, 1])
def test_an_id_out_of_its_field_is_an_error(field, wrong, plain):
    _, path = plain
    ids = np.zeros((3, 2), dtype=np.int32)
    ids[1, field] = wrong
    (answer,) = in_c_runtime(path, [("ids", {"ids": ids})])
    assert "ids out of range" in answer["error"]
    assert str(wrong) in answer["error"]
    assert f"[{field}]" in answer["error"]  # where, by its name


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


PYTHON_OPS = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}


def operations(path):
    """Types of all operations, functions' too."""
    content = (path / "saved_model.pb").read_bytes()
    model = saved_model_pb2.SavedModel.FromString(content)
    graph = model.meta_graphs[0].graph_def
    nodes = [
        *graph.node,
        *(n for f in graph.library.function for n in f.node_def),
    ]
    functions = {f.signature.name for f in graph.library.function}
    return {node.op for node in nodes} - functions


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


@pytest.mark.parametrize("kind", ["lr", "deepfm", "autoint", "autoint+"])
@pytest.mark.parametrize("quantize", [None, "float16", "int8"])
def test_every_model_and_every_type(kind, quantize, tmp_path):
    sizes = (7, 50, 3)
    settings = {"hidden_units": (8,), "dropout": 0.1}
    model = {
        "lr": lambda: keras_pep.models.LogisticRegression(sizes),
        "deepfm": lambda: keras_pep.models.DeepFM(sizes, 8, **settings),
        "autoint": lambda: keras_pep.models.AutoInt(sizes, 8),
        "autoint+": lambda: keras_pep.models.AutoInt(sizes, 8, **settings),
    }[kind]()
    model.build()
    drawn(model)
    result = keras_pep.export_saved_model(
        model, tmp_path / "1", quantize=quantize
    )
    ids = random_ids(sizes, (1, 1, 1), 40)
    (answer,) = in_c_runtime(result.path, [("ids", {"ids": ids})])
    # Of 0.5, a float16 is 2e-4 off at most, an eighth of an int8 4e-3, and
    # logits are sums of products of them.
    close = {None: CLOSE, "float16": 2e-3, "int8": 2e-2}[quantize]
    np.testing.assert_allclose(
        answer["probability"], probabilities(model, ids), atol=close
    )
    kept = model.embedding.nonzero_parameters()
    table = result.report["tables"]["embedding"]
    assert table["kept_parameters"] == kept
    expected = quantize or "float32"
    if kind == "lr" and quantize == "int8":  # of one column
        expected = "float16"
    assert table["values"] == expected


def test_a_functional_model_of_ones_own(tmp_path):
    ids = keras.Input((2,), dtype="int32", name="pages")
    price = keras.Input((1,), name="price")
    one = keras_pep.PrunedEmbedding.from_dense(
        np.eye(9, 4, dtype="float32"), name="table"
    )
    two = keras.layers.Embedding(9, 3, name="other")
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
    ids = random_ids(clicks.field_sizes, clicks.field_lengths, 9)
    (answer,) = in_c_runtime(result.path, [("ids", {"ids": ids})])
    np.testing.assert_allclose(
        answer["probability"], probabilities(model, ids), atol=CLOSE
    )


NAMES = ["class", "a", "A", "user id", "input_0", "self", "Größe", "x/y"]


def test_fields_may_have_any_name(tmp_path):
    vocabularies = {
        name: keras_pep.data.Vocabulary(
            keras_pep.data.Field(name, name), np.array(["u", "v"], object)
        )
        for name in NAMES
    }
    model = keras_pep.models.FM((2,) * len(NAMES), 4)
    model.build()
    drawn(model)
    result = keras_pep.export_saved_model(model, tmp_path / "1", vocabularies)
    ids = random_ids(model.field_sizes, model.field_lengths, 5)
    raw = {
        name: np.array(["u", "v"])[column]
        for name, column in zip(NAMES, ids.T, strict=True)
    }
    (answer,) = in_c_runtime(result.path, [("serving_default", raw)])
    np.testing.assert_allclose(
        answer["probability"], probabilities(model, ids), atol=CLOSE
    )


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
    ids = random_ids((5, 9), (1, 1), 30)
    (answer,) = in_c_runtime(result.path, [("ids", {"ids": ids})])
    np.testing.assert_allclose(
        answer["probability"], probabilities(model, ids), atol=CLOSE
    )


def test_the_c_runtime_takes_several_threads(plain):
    """Some of whose calls fail."""
    runtime = keras_pep.serving.c_runtime
    model = runtime.SavedModel(plain[1])
    good = {"ids": np.zeros((4, 2), dtype=np.int32)}
    bad = {"ids": np.full((4, 2), 99, dtype=np.int32)}
    expected = model("ids", good)["probability"]

    def ask(number):
        for _ in range(200):
            if number % 2:
                np.testing.assert_array_equal(
                    model("ids", good)["probability"], expected
                )
            else:
                with pytest.raises(runtime.ServingError, match="out of range"):
                    model("ids", bad)

    with futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))


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


KILLED = """
import sys, keras_pep, keras, time
model = keras_pep.models.FM((40_000, 40_000), 8, embedding="dense")
model.build()
print("ready", flush=True)
keras_pep.export_saved_model(model, sys.argv[1])
"""


def test_a_killed_export_leaves_no_version(plain, tmp_path):
    """Whenever it is killed, TensorFlow Serving finds a whole one or none."""
    found = set()
    for delay in (0.02, 0.1, 0.2, 0.4):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, tmp_path / "1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        process.stdout.readline()
        while not any(tmp_path.iterdir()) and process.poll() is None:
            time.sleep(0.001)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
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


def test_other_backends_are_told_what_to_do(tmp_path):
    program = (
        "import keras_pep\n"
        "model = keras_pep.models.FM((4, 4), 8)\n"
        "model.build()\n"
        "keras_pep.export_saved_model(model, 'x/1')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "KERAS_BACKEND=tensorflow" in done.stderr
    assert not any(tmp_path.iterdir())


def test_the_description_is_in_the_directory(exported):
    path = exported.path / "assets.extra" / "keras_pep.json"
    content = json.loads(path.read_text())
    assert {**content, "files_bytes": exported.report["files_bytes"]} == {
        **exported.report
    }


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
