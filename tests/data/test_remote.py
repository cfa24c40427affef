"""Files of an object store on loopback, read by PyArrow's own client."""

import http.server
import threading
import urllib.request
from contextlib import contextmanager
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pandas as pd
import pyarrow.fs
import pytest
from click.testing import CliRunner

from keras_pep import data
from keras_pep.data import DataError
from keras_pep.lab.cli import main
from keras_pep.lab.cli.dataset import short_name
from tests.lab.cli.test_cli import QUICK

DAYS = ("day=2026-11-21", "day=2026-11-22")


class Store(http.server.BaseHTTPRequestHandler):
    """A small S3 for readers: it lists objects, and sends ranges of them."""

    protocol_version = "HTTP/1.1"

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self):
        found = self.server.objects.get(unquote(urlsplit(self.path).path[1:]))
        if found is None:
            return self.answer(404)
        return self.answer(
            200,
            Content_Length=str(len(found)),
            Last_Modified="Sat, 21 Nov 2026 10:00:00 GMT",
        )

    def do_GET(self):
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if "list-type" in query:
            prefix = query["prefix"][0]
            found = [
                f"<Contents><Key>{key.removeprefix('rows/')}</Key>"
                "<LastModified>2026-11-21T10:00:00.000Z</LastModified>"
                f"<Size>{len(body)}</Size></Contents>"
                for key, body in sorted(self.server.objects.items())
                if key.startswith(f"rows/{prefix}")
            ]
            count = f"<KeyCount>{len(found)}</KeyCount>"
            text = "".join(["<ListBucketResult>", count, *found])
            text += "</ListBucketResult>"
            return self.answer(200, text.encode())
        body = self.server.objects[unquote(url.path[1:])]
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        body = body[int(first) : int(last) + 1]
        self.server.asked += 1
        if self.server.broken > 0:
            self.server.broken -= 1
            self.answer(206, body[: len(body) // 2], Content_Length=len(body))
            self.close_connection = True
            return None
        return self.answer(206, body)

    def log_message(self, *_):
        pass


@contextmanager
def small_server(files):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Store) as server:
        server.objects = {f"rows/{name}": body for name, body in files.items()}
        server.asked = server.broken = 0
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server.address = f"127.0.0.1:{server.server_port}"
        yield server
        server.shutdown()


@contextmanager
def moto_server(files):
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    server.address = "{}:{}".format(*server.get_host_and_port())
    # What another test has left, in the same process, is still there.
    reset = f"http://{server.address}/moto-api/reset"
    urllib.request.urlopen(reset, data=b"").close()
    store = pyarrow.fs.S3FileSystem(
        endpoint_override=server.address,
        scheme="http",
        allow_bucket_creation=True,
    )
    store.create_dir("rows")
    for name, body in files.items():
        with store.open_output_stream(f"rows/{name}") as file:
            file.write(body)
    yield server
    server.stop()


@pytest.fixture
def files():
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "clicked": random.integers(0, 2, 600),
            "user": random.integers(0, 20, 600),
        }
    )
    return {
        f"clicks/{day}/part.csv": part.to_csv(index=False).encode()
        for day, part in zip(DAYS, (frame[:250], frame[250:]), strict=True)
    }


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.setenv(f"AWS_{name}", "none")
    monkeypatch.setenv("AWS_REGION", "us-east-1")


def uri(server, path="clicks"):
    return f"s3://rows/{path}?scheme=http&endpoint_override={server.address}"


def load(server, cache, path="clicks"):
    return data.load(uri(server, path), label="clicked", cache_dir=cache)


@pytest.mark.parametrize("serve", [small_server, moto_server])
def test_a_folder_in_a_store_is_that_on_a_disk(files, tmp_path, serve):
    for name, body in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(body)
    expected = data.load(
        tmp_path / "clicks", label="clicked", cache_dir=tmp_path / "cache"
    )
    assert expected.fields == ("user", "day_weekday")
    with serve(files) as server:
        found = load(server, tmp_path / "far")
        assert found.fingerprint() == expected.fingerprint()
        (name, _), asked = files, getattr(server, "asked", 0)
        load(server, tmp_path / "far")
        assert getattr(server, "asked", 0) == asked  # nothing is copied again
        one = load(server, tmp_path / "far", name)
        assert sum(map(len, one.splits.values())) == 250


def test_what_changes_is_copied_and_what_goes_is_removed(files, tmp_path):
    first, second = files
    with small_server(files) as server:
        load(server, tmp_path)
        del server.objects[f"rows/{second}"]
        server.objects[f"rows/{first}"] *= 1
        server.objects[f"rows/{first}"] += b"1,7\n"
        found = load(server, tmp_path)
    assert sum(map(len, found.splits.values())) == 251


@pytest.mark.parametrize(
    "times", [1, pytest.param(1000, marks=pytest.mark.slow)]
)
def test_a_connection_that_breaks_is_tried_again_or_told(
    files, tmp_path, times
):
    with small_server(files) as server:
        server.broken = times
        if times == 1:
            assert len(load(server, tmp_path).train)
            return
        with pytest.raises(
            DataError, match=r"s3://rows/clicks/day=2026-11-21/part\.csv: canno"
        ):
            load(server, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_command_takes_files_of_a_store(files, tmp_path):
    train, test = files
    with small_server(files) as server:
        options = ["--dataset", uri(server, train), "--label", "clicked"]
        options += ["--test-file", uri(server, test)]
        found = CliRunner().invoke(
            main, ["prepare", *options, "--cache-dir", tmp_path]
        )
    assert not found.exit_code, found.output
    assert "part, features own" in found.output
    assert ", test 350 (" in found.output


@pytest.mark.slow
@pytest.mark.requires_tensorflow
def test_a_model_is_trained_from_a_store_and_exported_to_it(files, tmp_path):
    run = tmp_path / "run"
    with moto_server(files) as server:
        options = ["--dataset", uri(server), "--label", "clicked"]
        options += ["--cache-dir", tmp_path / "cache", "--run-dir", run]
        for command in (
            ["train", *options, *QUICK, "--budget", 60, "--no-baseline"],
            ["export", run, "--output", uri(server, "models")],
            ["export", run, "--output", uri(server, "models")],
        ):
            done = CliRunner().invoke(main, [*map(str, command)])
            assert not done.exit_code, done.output
        assert f"SavedModel: {uri(server, 'models/2')}" in done.output


def test_a_run_is_named_by_the_path_of_a_uri():
    assert short_name("s3://rows/a/clicks.csv?scheme=http&x=a.b") == "clicks"


def test_what_is_not_there_is_an_error(files, tmp_path):
    with (
        small_server(files) as server,
        pytest.raises(DataError, match="no such file or folder, expected"),
    ):
        load(server, tmp_path, "nothing")
    with pytest.raises(DataError, match="cannot be read: Unrecognized file"):
        data.load("s5://rows/clicks", label="clicked", cache_dir=tmp_path)
