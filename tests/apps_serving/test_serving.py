"""The client and the load generator, against servers that stand in."""

import re
import subprocess
import sys
from concurrent import futures
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import requests
from click.testing import CliRunner

import keras_pep
from apps.serving import client, load
from tests.clicks import raw_rows, write_csv

APP = Path(client.__file__).parent
COLUMNS = ("--column", "when_hour=when", "--column", "when_weekday=when")


@pytest.fixture(scope="module")
def models(clicks, clicks_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for version in (1, 2):  # the second is served
        keras_pep.export_saved_model(
            clicks_model,
            folder / "clicks" / str(version),
            clicks,
            None if version == 2 else "int8",
        )
    return folder


@pytest.fixture(scope="module")
def rest(models):
    stand_in = Path(__file__).with_name("stand_in.py")
    process = subprocess.Popen(
        [sys.executable, "-I", stand_in, models],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture(scope="module")
def grpc(models):
    """TensorFlow Serving's gRPC service, as far as the client uses it."""
    pytest.importorskip("tensorflow_serving", exc_type=ImportError)
    import grpc as library
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        predict_pb2,
        prediction_service_pb2_grpc,
    )

    from tests.serving.c_runtime import SavedModel, ServingError

    path = models / "clicks" / "2"
    model = SavedModel(path)
    content = saved_model_pb2.SavedModel.FromString(
        (path / "saved_model.pb").read_bytes()
    )

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def GetModelMetadata(self, request, context):  # noqa: N802
            signatures = get_model_metadata_pb2.SignatureDefMap()
            for name, signature in content.meta_graphs[0].signature_def.items():
                signatures.signature_def[name].CopyFrom(signature)
            answer = get_model_metadata_pb2.GetModelMetadataResponse()
            answer.metadata["signature_def"].Pack(signatures)
            return answer

        def Predict(self, request, context):  # noqa: N802
            inputs = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
            try:
                outputs = model(request.model_spec.signature_name, inputs)
            except ServingError as error:
                context.abort(library.StatusCode.INVALID_ARGUMENT, str(error))
            answer = predict_pb2.PredictResponse()
            for name, value in outputs.items():
                answer.outputs[name].CopyFrom(tf.make_tensor_proto(value))
            return answer

    server = library.server(futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        Service(), server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture
def rows(tmp_path):
    made = raw_rows(120, seed=3)
    write_csv(tmp_path / "new.csv", made)
    return tmp_path / "new.csv"


def run(main, *arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.mark.parametrize("by", ["rest", "grpc"])
def test_the_client_scores_what_keras_does(by, models, rows, tmp_path, request):
    address = request.getfixturevalue(by)
    result = run(
        *(client.main, "--url" if by == "rest" else "--grpc", address),
        *("--model", "clicks", "--input", rows, "--batch-size", 50, *COLUMNS),
        *("--output", tmp_path / "scores.csv"),
    )
    assert result.exit_code == 0, result.output
    assert "120 rows" in result.output
    scores = pd.read_csv(tmp_path / "scores.csv", keep_default_na=False)
    assert [*scores][-1] == "probability"
    assert scores["city"].tolist() == [r["city"] for r in raw_rows(120, seed=3)]

    score, _ = keras_pep.serving.scorer_of_saved_model(
        keras_pep.serving.describe(models / "clicks" / "2")
    )
    found = keras_pep.serving.score_file
    found(score, tuple(raw_rows(1)[0]), rows, tmp_path / "expected.parquet")
    expected = pd.read_parquet(tmp_path / "expected.parquet")["probability"]
    np.testing.assert_allclose(scores["probability"], expected, rtol=1e-6)


@pytest.mark.parametrize("by", ["rest", "grpc"])
def test_load_says_how_long_answers_take(by, rows, request):
    address = request.getfixturevalue(by)
    result = run(
        *(load.main, "--url" if by == "rest" else "--grpc", address),
        *("--model", "clicks", "--input", rows, *COLUMNS),
        *("--seconds", 0.5, "--clients", 2, "--batch-size", 10),
    )
    assert result.exit_code == 0, result.output
    requests_made = int(re.match(r"([\d,]+) requests", result.output)[1])
    assert requests_made > 2
    p50, p99 = re.search(r"p50 (\S+) ms, p99 (\S+) ms", result.output).groups()
    assert 0 < float(p50) <= float(p99)


def test_what_readme_sends_with_curl(rest):
    """Row by row, and by version; as the README's example does."""
    text = (APP / "README.md").read_text()
    url, body = re.search(r"curl (\S+) \\\n +-d '(.+?)'\n", text, re.S).groups()
    url = url.replace("http://localhost:8501", rest)
    answer = requests.post(url, data=body, timeout=30)
    assert answer.ok, answer.text
    one, other = answer.json()["predictions"]
    assert 0 < one < 1
    assert one != other
    old = url.replace("clicks:", "clicks/versions/1:")
    assert requests.post(old, data=body, timeout=30).status_code == 404


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"inputs": {"city": ["Paris"]}}, "Missing named input"),
        ({"inputs": {"city": [5]}}, "expected type: DT_STRING"),
        ({"signature_name": "ids", "inputs": [[9999]]}, "out of range"),
        ({"signature_name": "ids", "inputs": [["a"]]}, "expected type"),
        ({"signature_name": "nothing", "inputs": []}, "not found"),
        ({}, "Missing 'inputs'"),
    ],
)
def test_bad_requests_are_refused(body, found, rest, clicks):
    if body.get("inputs") and isinstance(body["inputs"], list):  # ids
        width = sum(clicks.field_lengths)
        body = {**body, "inputs": [row * width for row in body["inputs"]]}
    url = f"{rest}/v1/models/clicks:predict"
    answer = requests.post(url, json=body, timeout=30)
    assert answer.status_code == 400
    assert found in answer.json()["error"]


@pytest.mark.parametrize("by", ["rest", "grpc"])
def test_errors_of_the_client_are_one_line(by, rows, tmp_path, request):
    way = ("--url" if by == "rest" else "--grpc", request.getfixturevalue(by))
    target = ("--output", tmp_path / "scores.csv")
    read = ("--input", rows)
    model = ("--model", "clicks")
    cases = {
        "no column for when_hour, when_weekday": (*way, *model, *read),
        "INPUT=COLUMN": (*way, *model, *read, "--column", "when"),
    }
    if by == "rest":
        cases["404.*Servable not found"] = (
            *way,
            "--model",
            "x",
            *read,
            *COLUMNS,
        )
        nowhere = ("--url", "http://127.0.0.1:9", *model, *read)
        cases["does not answer"] = nowhere
    else:
        nowhere = ("--grpc", "127.0.0.1:9", *model, *read)
        cases["UNAVAILABLE"] = nowhere
    for name, content in {
        "ragged.csv": rows.read_text().rstrip("\n") + ",more\n",
        "short.csv": rows.read_text() + "1,2\n",
    }.items():
        (tmp_path / name).write_text(content)
        read_it = ("--input", tmp_path / name)
        cases[f"{name}, line .*columns"] = (*way, *model, *COLUMNS, *read_it)
    (tmp_path / "latin.csv").write_bytes("user id\nÄ\n".encode("latin-1"))
    cases["no CSV in UTF-8"] = (
        *(*way, *model, *COLUMNS, "--input", tmp_path / "latin.csv"),
    )
    cases["no input zzz"] = (*way, *model, *read, "--column", "zzz=when")
    bad = [{**row, "price": "cheap"} for row in raw_rows(3)]
    write_csv(tmp_path / "bad.csv", bad)
    cases["'cheap', expected a number"] = (
        *(*way, *model, *COLUMNS, "--input", tmp_path / "bad.csv"),
    )
    for found, arguments in cases.items():
        result = run(client.main, *arguments, *target)
        assert result.exit_code in (1, 2), result.output
        assert re.search(found, result.output, re.S), result.output
        assert "Traceback" not in result.output
        assert not (tmp_path / "scores.csv").exists()
    made = {"new.csv", "bad.csv", "ragged.csv", "short.csv", "latin.csv"}
    assert {p.name for p in tmp_path.iterdir()} == made
    good = (*way, *model, *read, *COLUMNS)
    nowhere = run(client.main, *good, "--output", tmp_path / "no" / "scores")
    assert "cannot be written" in nowhere.output
    taken = run(client.main, *good, "--output", rows)
    assert "--force" in taken.output


def test_the_files_for_the_container_fit_together():
    """No container runs here: they are parsed, and compared."""
    yaml = pytest.importorskip("yaml")
    service = yaml.safe_load((APP / "compose.yaml").read_text())["services"]
    mounts = dict(
        reversed(re.fullmatch(r"(.+):(/\S+):ro", volume).groups())
        for volume in service["serving"]["volumes"]
    )
    assert (APP / mounts["/config/models.config"]).is_file()
    command = service["serving"]["command"]
    assert "--model_config_file=/config/models.config" in command
    ports = [port.split(":")[0] for port in service["serving"]["ports"]]
    assert ports == ["8500", "8501"]

    pytest.importorskip("tensorflow_serving", exc_type=ImportError)
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    config = text_format.Parse(
        (APP / "models.config").read_text(),
        model_server_config_pb2.ModelServerConfig(),
    )
    (model,) = config.model_config_list.config
    assert model.model_platform == "tensorflow"
    assert model.base_path == f"/models/{model.name}"
    assert "/models" in mounts
