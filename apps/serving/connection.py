"""Two ways to ask TensorFlow Serving: REST, and gRPC."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import click
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

_TYPES = {"DT_STRING": "string", "DT_INT64": "int64", "DT_DOUBLE": "float64"}
_SECONDS = 30  # until a request is given up
# A server that is busy, or starts, is asked again after about 0.1, 0.2, 0.4 and
# 0.8 seconds; scores do not depend on how often they are asked for.
_ATTEMPTS, _FIRST_WAIT = 5, 0.1
_BUSY = {"RESOURCE_EXHAUSTED": 429, "UNAVAILABLE": 503}  # gRPC's name, REST's

# Values of a batch by the name of the input.
Inputs = Mapping[str, Sequence[Any]]


class Connection(Protocol):
    """A model on a server."""

    def inputs(self) -> dict[str, str]:
        """Type of each input: string, int64 or float64."""

    def predict(self, inputs: Inputs) -> list[float]:
        """Probabilities of a batch of rows."""


class Rest:
    """A model by TensorFlow Serving's REST API.

    Args:
        url: Of the server, such as `http://localhost:8501`.
        model: Its name.

    Reference:
        - [RESTful API](https://www.tensorflow.org/tfx/serving/api_rest)
    """

    def __init__(self, url: str, model: str) -> None:
        self._url = f"{url.rstrip('/')}/v1/models/{model}"
        self._session = requests.Session()
        retries = Retry(
            _ATTEMPTS - 1,
            read=1,  # which may have taken long
            status_forcelist=_BUSY.values(),
            allowed_methods=None,  # POST, too
            backoff_factor=_FIRST_WAIT,
            backoff_jitter=_FIRST_WAIT,
            raise_on_status=False,
        )
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retries))

    def inputs(self) -> dict[str, str]:
        """Type of each input, as the server has it."""
        answer = self._answer(
            self._session.get(f"{self._url}/metadata", timeout=_SECONDS)
        )
        signatures = answer["metadata"]["signature_def"]["signature_def"]
        inputs = signatures["serving_default"]["inputs"]
        return {
            name: _TYPES[info["dtype"]] for name, info in sorted(inputs.items())
        }

    def predict(self, inputs: Inputs) -> list[float]:
        """Probabilities of a batch of rows; NaN is JSON for this server."""
        answer = self._session.post(
            f"{self._url}:predict",
            data=json.dumps({"inputs": inputs}),
            headers={"Content-Type": "application/json"},
            timeout=_SECONDS,
        )
        return [float(p) for p in self._answer(answer)["outputs"]]

    @staticmethod
    def _answer(response: requests.Response) -> Any:
        try:
            content = response.json()
        except requests.JSONDecodeError:
            content = {"error": response.text[:200] or response.reason}
        if not response.ok:
            raise click.ClickException(
                f"the server has answered {response.status_code}: "
                f"{content.get('error', content)}"
            )
        return content


class Grpc:
    """A model by TensorFlow Serving's gRPC API; faster for many rows.

    Args:
        address: Of the server, such as `localhost:8500`.
        model: Its name.
    """

    def __init__(self, address: str, model: str) -> None:
        try:
            from tensorflow_serving.apis import prediction_service_pb2_grpc
        except ImportError as error:
            raise click.ClickException(
                f"gRPC needs tensorflow-serving-api: {error}"
            ) from error
        import grpc

        self._model = model
        self._types: dict[str, str] = {}
        policy = {
            "maxAttempts": _ATTEMPTS,
            "initialBackoff": f"{_FIRST_WAIT}s",
            "maxBackoff": "2s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": [*_BUSY],
        }
        config = {"methodConfig": [{"name": [{}], "retryPolicy": policy}]}
        self._service = prediction_service_pb2_grpc.PredictionServiceStub(
            grpc.insecure_channel(
                address, [("grpc.service_config", json.dumps(config))]
            )
        )

    def inputs(self) -> dict[str, str]:
        """Type of each input, as the server has it."""
        import tensorflow as tf
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest()
        request.model_spec.name = self._model
        request.metadata_field.append("signature_def")
        answer = self._ask(self._service.GetModelMetadata, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(signatures)
        inputs = signatures.signature_def["serving_default"].inputs
        self._types = {
            name: tf.dtypes.as_dtype(info.dtype).name
            for name, info in sorted(inputs.items())
        }
        return self._types

    def predict(self, inputs: Inputs) -> list[float]:
        """Probabilities of a batch of rows."""
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        types = self._types or self.inputs()
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self._model
        request.model_spec.signature_name = "serving_default"
        for name, values in inputs.items():
            request.inputs[name].CopyFrom(
                tf.make_tensor_proto(list(values), types[name])
            )
        answer = self._ask(self._service.Predict, request)
        probabilities = tf.make_ndarray(answer.outputs["probability"])
        return [float(p) for p in probabilities]

    @staticmethod
    def _ask(method: Any, request: Any) -> Any:
        import grpc

        try:
            return method(request, timeout=_SECONDS)
        except grpc.RpcError as error:
            raise click.ClickException(
                f"the server has answered {error.code().name}: "
                f"{error.details()}"
            ) from error


def connect(url: str, grpc: str | None, model: str) -> Connection:
    """By gRPC if there is an address for it, else by REST."""
    return Rest(url, model) if grpc is None else Grpc(grpc, model)


def batch_of(
    rows: Sequence[Mapping[str, str]],
    types: Mapping[str, str],
    columns: Mapping[str, str],
) -> dict[str, list[Any]]:
    """Inputs of some rows of text.

    Args:
        rows: Values by column.
        types: Of each input.
        columns: Where an input's values are, if not in a column of its name.
    """
    return {
        name: [_typed(row[columns.get(name, name)], dtype) for row in rows]
        for name, dtype in types.items()
    }


def _typed(text: str, dtype: str) -> Any:
    """A value as an input takes it; a missing number is NaN."""
    if dtype == "string":
        return text
    try:
        if dtype == "int64":
            return int(text)
        return float(text) if text.strip() else math.nan
    except ValueError:
        raise click.ClickException(
            f"found {text!r}, expected a number of type {dtype}."
        ) from None
