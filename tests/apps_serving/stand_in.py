"""Speaks TensorFlow Serving's REST protocol, with TensorFlow's C runtime.

    python -I stand_in.py MODELS

Serves the highest version of each model below a folder, and prints its port. A
later version takes its place once it is loaded; requests that have begun end
with the one they have. Never imports tensorflow, and refuses what TensorFlow
Serving refuses, in its words as far as a client may depend on them.
"""

import json
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "serving"))

import c_runtime
import numpy as np

NAMES = {
    "O": "DT_STRING",
    "i8": "DT_INT64",
    "f8": "DT_DOUBLE",
    "i4": "DT_INT32",
}
NAMES["f4"] = "DT_FLOAT"


class RefusedError(Exception):
    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def load(models, folder):
    versions = [p for p in folder.iterdir() if re.fullmatch(r"\d+", p.name)]
    version = max(versions, key=lambda path: int(path.name))
    if models.get(folder.name, ("",))[0] != version.name:
        models[folder.name] = version.name, c_runtime.SavedModel(version)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer(self.get)

    def do_POST(self):
        self.answer(self.post)

    def answer(self, method):
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        try:
            code, content = 200, method(body)
        except RefusedError as error:
            code, content = error.code, {"error": str(error)}
        encoded = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def found(self, pattern):
        match = re.fullmatch(pattern, self.path)
        if match is None:
            raise RefusedError(
                404, f"Malformed request: {self.command} {self.path}"
            )
        name, version = match["name"], match["version"]
        if name not in self.models:
            message = f"Servable not found for request: Latest({name})"
            raise RefusedError(404, message)
        current, model = self.models[name]
        if version not in (None, current):
            raise RefusedError(
                404,
                f"Servable not found for request: Specific({name}, {version})",
            )
        return name, current, model

    def get(self, _):
        name, version, model = self.found(PATH + r"(?P<what>/metadata)?")
        if not self.path.endswith("/metadata"):
            return {
                "model_version_status": [
                    {"version": version, "state": "AVAILABLE", "status": {}}
                ]
            }
        signatures = {
            key: {
                "inputs": {k: described(i) for k, i in s.inputs.items()},
                "outputs": {k: described(i) for k, i in s.outputs.items()},
                "method_name": "tensorflow/serving/predict",
            }
            for key, s in model.signatures.items()
        }
        return {
            "model_spec": {"name": name, "version": version},
            "metadata": {"signature_def": {"signature_def": signatures}},
        }

    def post(self, body):
        _, _, model = self.found(PATH + ":predict")
        try:
            content = json.loads(body)
        except ValueError as error:
            raise RefusedError(400, f"JSON Parse error: {error}") from error
        name = content.get("signature_name", "serving_default")
        if name not in model.signatures:
            raise RefusedError(
                400, f'Serving signature name: "{name}" not found'
            )
        wanted = model.signatures[name].inputs
        by_rows = "instances" in content
        if by_rows == ("inputs" in content):
            raise RefusedError(400, "Missing 'inputs' or 'instances' key")
        given = content["instances" if by_rows else "inputs"]
        if by_rows:
            rows = given if isinstance(given[0], dict) else None
            (only,) = wanted if len(wanted) == 1 else (None,)
            given = (
                {key: [row[key] for row in rows] for key in rows[0]}
                if rows
                else {only: given}
            )
        elif not isinstance(given, dict):
            (only,) = wanted
            given = {only: given}
        arrays = {}
        for key, info in sorted(wanted.items()):
            if key not in given:
                raise RefusedError(400, f"Missing named input: {key}")
            arrays[key] = array(key, given[key], info)
        try:
            outputs = model(name, arrays)
        except c_runtime.ServingError as error:
            raise RefusedError(400, str(error)) from error
        outputs = {key: value.tolist() for key, value in outputs.items()}
        if len(outputs) == 1:
            (outputs,) = outputs.values()
        return {"predictions" if by_rows else "outputs": outputs}


PATH = r"/v1/models/(?P<name>[^/:]+)(/versions/(?P<version>\d+))?"


def described(info):
    dims = [{"size": str(size), "name": ""} for size in info.shape]
    return {
        "dtype": NAMES[info.dtype.str.lstrip("<|")],
        "tensor_shape": {"dim": dims, "unknown_rank": False},
        "name": info.name,
    }


def array(name, values, info):
    """JSON values as a tensor, refused if they are of another type."""
    kind = {"O": str, "i": int, "f": (int, float)}[info.dtype.kind]

    def check(value):
        if isinstance(value, list):
            for each in value:
                check(each)
        elif not isinstance(value, kind) or isinstance(value, bool):
            raise RefusedError(
                400,
                f"Failed to process element of '{name}'. JSON Value: {value!r} "
                f"not of expected type: {described(info)['dtype']}",
            )

    check(values)
    return np.array(values, dtype=info.dtype)


if __name__ == "__main__":

    def load_all():
        for path in Path(sys.argv[1]).iterdir():
            load(Handler.models, path)

    Handler.models = {}
    load_all()
    assert not [n for n in sys.modules if n.startswith(("tensorflow", "keras"))]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever).start()
    while True:  # as TensorFlow Serving looks for versions, more often
        time.sleep(0.1)
        load_all()
