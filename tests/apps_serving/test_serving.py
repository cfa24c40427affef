"""The client and the load generator, against servers that stand in."""

import contextlib
import json
import re
import subprocess
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest
import requests
from click.testing import CliRunner

import keras_pep
from apps.serving import client, connection, load
from keras_pep.lab import scoring
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
    with stand_in(models) as address:
        yield address


@contextlib.contextmanager
def stand_in(models):
    process = subprocess.Popen(
        [sys.executable, "-I", Path(__file__).with_name("stand_in.py"), models],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.slow
def test_a_new_version_takes_over_under_load(clicks_model, clicks, tmp_path):
    """No request fails, and each is answered by one version or the other."""

    def export(version, quantize):
        target = tmp_path / "models" / "clicks" / str(version)
        keras_pep.export_saved_model(clicks_model, target, clicks, quantize)
        score, columns = scoring.scorer_of_saved_model(
            keras_pep.serving.describe(target)
        )
        write_csv(tmp_path / "rows.csv", raw_rows(20, seed=3))
        out = tmp_path / "scores.parquet"
        scoring.score_file(score, columns, tmp_path / "rows.csv", out)
        return pd.read_parquet(out)["probability"].to_numpy()

    expected = [export(1, "int8")]
    answers, end = [], threading.Event()

    def ask(address):
        own = connection.connect(address, None, "clicks")
        where = dict(column.split("=") for column in COLUMNS[1::2])
        batch = connection.batch_of(raw_rows(20, seed=3), own.inputs(), where)
        while not end.wait(0.01):
            answers.append(own.predict(batch))

    with (
        stand_in(tmp_path / "models") as address,
        futures.ThreadPoolExecutor(2) as clients,
    ):
        asking = [clients.submit(ask, address) for _ in range(2)]
        try:
            expected.append(export(2, None))
            asked = len(answers)
            while not np.allclose(answers[-1], expected[1], rtol=1e-6):
                assert len(answers) < asked + 5000
                end.wait(0.05)
        finally:
            end.set()
        for each in asking:
            each.result()
    served = [
        [np.allclose(answer, each, rtol=1e-6) for each in expected].index(True)
        for answer in answers
    ]
    assert {*served} == {0, 1}


REFUSALS = []  # gRPC's codes for what is asked next, the last one first


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
            if REFUSALS:
                context.abort(library.StatusCode[REFUSALS.pop()], "busy")
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

    score, _ = scoring.scorer_of_saved_model(
        keras_pep.serving.describe(models / "clicks" / "2")
    )
    found = scoring.score_file
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


def readme_rows():
    """Rows of the README's example."""
    text = (APP / "README.md").read_text()
    (body,) = re.findall(r"curl \S+ \\\n +-d '(.+?)'\n", text, re.S)
    return json.loads(body)["instances"]


def test_an_id_out_of_range_is_nan_in_json(rest, clicks):
    """As TensorFlow Serving writes it; strict JSON has no such number."""
    ids = np.zeros((3, sum(clicks.field_lengths)), int)
    ids[1, 0] = 9999
    answer = requests.post(
        f"{rest}/v1/models/clicks:predict",
        json={"signature_name": "ids", "instances": ids.tolist()},
        timeout=30,
    )
    assert re.search(r"\[0\.\d+, NaN, 0\.\d+\]", answer.text), answer.text


def test_a_busy_server_is_asked_again_by_grpc(grpc, rows, tmp_path):
    result = None
    for refusals in (["UNAVAILABLE", "RESOURCE_EXHAUSTED"], []):
        REFUSALS[:] = refusals
        target = tmp_path / f"{len(refusals)}.csv"
        result = run(
            *(client.main, "--grpc", grpc, "--model", "clicks"),
            *("--input", rows, *COLUMNS, "--output", target),
        )
        assert result.exit_code == 0, result.output
        assert not REFUSALS
    assert (tmp_path / "2.csv").read_text() == (tmp_path / "0.csv").read_text()
    for code, left in (("RESOURCE_EXHAUSTED", 5), ("INVALID_ARGUMENT", 9)):
        REFUSALS[:] = [code] * 10  # for longer than it asks, or in vain
        result = run(
            *(client.main, "--grpc", grpc, "--model", "clicks"),
            *("--input", rows, *COLUMNS, "--output", tmp_path / "no.csv"),
        )
        assert result.exit_code == 1
        assert f"the server has answered {code}: busy" in result.output
        assert len(REFUSALS) == left
    REFUSALS.clear()


class Busy(BaseHTTPRequestHandler):
    """Answers with the codes of its server, one after the other."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked += 1
        self.send_response(self.server.codes.pop(0))
        self.end_headers()
        self.wfile.write(b'{"outputs": [0.25], "error": "busy"}')

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ("codes", "asked"),
    [([429, 503, 200], 3), ([503] * 9, 5), ([400], 1)],
)
def test_a_busy_server_is_asked_again_by_rest(codes, asked):
    with HTTPServer(("127.0.0.1", 0), Busy) as server:
        server.codes, server.asked = [*codes], 0
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            rest = connection.connect(
                f"http://127.0.0.1:{server.server_port}", None, "m"
            )
            if codes[-1] == 200:
                assert rest.predict({"a": [1.0]}) == [0.25]
            else:
                with pytest.raises(
                    click.ClickException, match=f"{codes[0]}: busy"
                ):
                    rest.predict({"a": [1.0]})
            assert server.asked == asked
        finally:
            server.shutdown()
            thread.join()


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
        ({"instances": [{"city": ["Paris"]}]}, "expected (rows), found (1, 1)"),
        ({"signature_name": "ids", "inputs": [[[1]]]}, "wrong shape"),
        ({"signature_name": "ids", "inputs": [["a"]]}, "expected type"),
        ({"signature_name": "nothing", "inputs": []}, "not found"),
        ({}, "Missing 'inputs'"),
    ],
)
def test_bad_requests_are_refused(body, found, rest, clicks):
    if body.get("inputs") and isinstance(body["inputs"], list):  # ids
        width = sum(clicks.field_lengths)
        body = {**body, "inputs": [row * width for row in body["inputs"]]}
    if "instances" in body:
        body = {"instances": [{**readme_rows()[0], **body["instances"][0]}]}
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


# Of TensorFlow Serving 9d981c5, tensorflow_serving/model_servers/main.cc.
FLAGS = {
    "model_config_file",
    "model_config_file_poll_wait_seconds",
    "allow_version_labels_for_unavailable_models",
    "max_num_load_retries",
    "grpc_max_threads",
    "monitoring_config_file",
    "enable_batching",
    "batching_parameters_file",
}


@pytest.fixture
def service():
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((APP / "compose.yaml").read_text())["services"][
        "serving"
    ]


def test_the_files_for_the_container_fit_together(service):
    """No container runs here: they are parsed, and compared."""
    mounts = dict(
        reversed(re.fullmatch(r"(.+):(/\S+):ro", volume).groups())
        for volume in service["volumes"]
    )
    assert "/models" in mounts
    flags = dict(flag[2:].split("=", 1) for flag in service["command"])
    assert {*flags} == FLAGS
    assert int(flags["max_num_load_retries"]) == 0
    assert int(flags["grpc_max_threads"]) == 256
    # With the file alone, or batching alone, the server does not start, or has
    # a limit of 1,000 rows.
    assert flags["enable_batching"] == "${BATCHING:-false}"
    (batching,) = re.findall(
        r"\$\{BATCHING:\+(\S+)\}", flags["batching_parameters_file"]
    )
    for path in (
        flags["model_config_file"],
        flags["monitoring_config_file"],
        batching,
    ):
        folder, _, name = path.rpartition("/")
        assert (APP / mounts[folder] / name).is_file()
    ports = [port.split(":")[0] for port in service["ports"]]
    assert ports == ["8500", "8501"]


def test_models_and_policies_are_what_the_server_reads():
    """Check the models of the file and the policies of the README."""
    pytest.importorskip("tensorflow_serving", exc_type=ImportError)
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    config = text_format.Parse(
        (APP / "config" / "models.config").read_text(),
        model_server_config_pb2.ModelServerConfig(),
    )
    (model,) = config.model_config_list.config
    assert model.model_platform == "tensorflow"
    assert model.base_path == f"/models/{model.name}"
    (policy,) = re.findall(
        r"```proto\n(.+?)```", (APP / "README.md").read_text(), re.S
    )
    text_format.Merge(policy, model)
    versions = model.model_version_policy.specific.versions
    assert [*versions] == [3, 4]
    assert dict(model.version_labels) == {"stable": 3, "canary": 4}


def parsed(name, message, fields):
    """A configuration file, as a message of the server's definition.

    tensorflow-serving-api has no module of it.
    """
    from google.protobuf import (
        descriptor_pb2,
        descriptor_pool,
        message_factory,
        text_format,
    )

    file = descriptor_pb2.FileDescriptorProto(
        name=f"{message}.proto", package="test", syntax="proto3"
    )
    file.message_type.add(name=message)
    for kind in {*fields.values()}:
        one = file.message_type.add(name=f"Of{kind}")
        one.field.add(name="value", number=1, type=kind, label=1)
    for number, (field, kind) in enumerate(fields.items(), 1):
        file.message_type[0].field.add(
            **{"name": field, "number": number, "type": 11, "label": 1},
            type_name=f".test.Of{kind}",
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    made = message_factory.GetMessageClass(
        pool.FindMessageTypeByName(f"test.{message}")
    )()
    text = (APP / "config" / name).read_text()
    return text_format.Parse(text, made)


def test_batching_is_what_the_server_reads():
    """By `BatchingParameters` of session_bundle_config.proto."""
    whole, yes = 3, 8  # int64 and bool
    found = parsed(
        "batching.config",
        "BatchingParameters",
        {
            "max_batch_size": whole,
            "batch_timeout_micros": whole,
            "max_enqueued_batches": whole,
            "num_batch_threads": whole,
            "enable_large_batch_splitting": yes,
            "max_execution_batch_size": whole,
        },
    )
    assert found.enable_large_batch_splitting.value
    assert found.max_batch_size.value >= found.max_execution_batch_size.value
    assert found.max_execution_batch_size.value > 1000
    assert found.num_batch_threads.value >= 1
    text = (APP / "README.md").read_text()
    assert f"{found.max_batch_size.value:,} rows" in text


def test_metrics_are_where_the_readme_says():
    """By `MonitoringConfig` of monitoring_config.proto."""
    text = (APP / "config" / "monitoring.config").read_text()
    pattern = r'prometheus_config \{\s+enable: true\s+path: "(\S+)"\s+\}\s*'
    path = re.fullmatch(pattern, text)[1]
    assert f"http://localhost:8501{path}" in (APP / "README.md").read_text()


def test_the_health_check_says_whether_the_model_is_there(service, rest):
    """With what the image has: bash and grep."""
    kind, *command = service["healthcheck"]["test"]
    assert kind == "CMD"
    port = rest.rpartition(":")[2]
    for name, healthy in (("clicks", True), ("other", False)):
        asked = [
            each.replace("8501", port).replace(
                "models/clicks", f"models/{name}"
            )
            for each in command
        ]
        done = subprocess.run(asked, timeout=20, check=False)
        assert (done.returncode == 0) is healthy
    nobody = [each.replace("8501", "9") for each in command]
    done = subprocess.run(nobody, capture_output=True, timeout=20, check=False)
    assert done.returncode != 0
