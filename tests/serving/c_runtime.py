"""Runs a SavedModel as TensorFlow Serving does: in C++, without Python.

For tests and benchmarks, on Linux. Imports nothing of TensorFlow's Python, and
nothing of this project: a process that has this file alone can say whether a
model needs either. A graph with a Python op loads here as it does in TensorFlow
Serving, and fails when it is run.
"""

import ctypes
import importlib.util
import time
from collections.abc import Iterator, Mapping
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_STRING = 7
# TensorFlow's numbers of types, of tensorflow/core/framework/types.proto.
_TYPES: Mapping[int, Any] = {
    1: np.float32,
    2: np.float64,
    3: np.int32,
    4: np.uint8,
    5: np.int16,
    6: np.int8,
    _STRING: np.object_,
    9: np.int64,
    10: np.bool_,
    17: np.uint16,
    19: np.float16,
    22: np.uint32,
    23: np.uint64,
}
_NUMBERS = {np.dtype(kind): number for number, kind in _TYPES.items()}
_STRING_BYTES = 24  # sizeof(TF_TString)


class ServingError(RuntimeError):
    """What TensorFlow has answered instead of a result."""


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a signature.

    Attributes:
        name: Of the tensor in the graph, `"operation:0"`.
        dtype: As NumPy has it; object for strings, which are bytes, and void
            for types that it has not.
        shape: -1 where any length will do.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs by their names."""

    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]


class _Output(ctypes.Structure):
    _fields_ = (("operation", c_void_p), ("index", c_int))


class _Buffer(ctypes.Structure):
    _fields_ = (("data", c_void_p), ("length", c_size_t), ("free", c_void_p))


class SavedModel:
    """A loaded SavedModel.

    Args:
        path: The directory that holds `saved_model.pb`.
        threads: That an operation may use, and of operations at once; as many
            as there are cores if 0.

    Attributes:
        signatures: By name.
        seconds: What the last run has taken, without the copies of inputs and
            outputs; of one thread.
        processor_seconds: Likewise what it has taken of the processor, in all
            threads, whatever else the machine is doing.

    Raises:
        ServingError: If it cannot be loaded.
    """

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        self._library = library = _library()
        status = library.TF_NewStatus()
        self._graph = library.TF_NewGraph()
        options = library.TF_NewSessionOptions()
        if threads:  # ConfigProto: its fields 2 and 5
            config = bytes([2 << 3, threads, 5 << 3, threads])
            library.TF_SetConfig(options, config, len(config), status)
            self._check(status)
            status = library.TF_NewStatus()
        tags = (c_char_p * 1)(b"serve")
        buffer = library.TF_NewBuffer()
        self._session = library.TF_LoadSessionFromSavedModel(
            *(options, None, str(path).encode(), tags, 1),
            *(self._graph, buffer, status),
        )
        library.TF_DeleteSessionOptions(options)
        content = ctypes.string_at(buffer.contents.data, buffer.contents.length)
        library.TF_DeleteBuffer(buffer)
        self._check(status, f"{path}: ")
        self.signatures = dict(_signatures(content))
        self.seconds = self.processor_seconds = 0.0

    def __call__(
        self, signature: str, inputs: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        """Runs a signature.

        Args:
            signature: Its name.
            inputs: An array for each of its inputs.

        Returns:
            An array for each of its outputs.

        Raises:
            ServingError: If there is no such signature, the inputs are not
                those it takes, or it fails.
        """
        library = self._library
        if signature not in self.signatures:
            raise ServingError(
                f"no signature {signature!r}; there are "
                f"{', '.join(sorted(self.signatures))}"
            )
        wanted = self.signatures[signature]
        if set(inputs) != set(wanted.inputs):
            raise ServingError(
                f"signature {signature!r} takes {sorted(wanted.inputs)}; "
                f"received {sorted(inputs)}"
            )
        given = [
            self._tensor(name, np.asarray(inputs[name]), info)
            for name, info in wanted.inputs.items()
        ]
        results = (c_void_p * len(wanted.outputs))()
        status = library.TF_NewStatus()
        began, worked = time.perf_counter(), time.process_time()
        try:
            library.TF_SessionRun(
                *(self._session, None),
                self._outputs(wanted.inputs),
                (c_void_p * len(given))(*given),
                len(given),
                self._outputs(wanted.outputs),
                results,
                len(results),
                *(None, 0, None, status),
            )
        finally:
            self.seconds = time.perf_counter() - began
            self.processor_seconds = time.process_time() - worked
            for tensor in given:
                library.TF_DeleteTensor(tensor)
        self._check(status)
        answer = {}
        for name, tensor in zip(wanted.outputs, results, strict=True):
            answer[name] = self._array(tensor)
            library.TF_DeleteTensor(tensor)
        return answer

    def _outputs(self, tensors: Mapping[str, TensorInfo]) -> Any:
        places = []
        for info in tensors.values():
            operation, _, index = info.name.rpartition(":")
            found = self._library.TF_GraphOperationByName(
                self._graph, operation.encode()
            )
            places.append(_Output(found, int(index)))
        return (_Output * len(places))(*places)

    def _tensor(self, name: str, array: np.ndarray, info: TensorInfo) -> Any:
        if info.dtype.kind == "O":
            if array.dtype.kind not in "OSU":
                raise ServingError(
                    f"input {name!r} takes text; received {array.dtype}"
                )
        elif array.dtype != info.dtype:
            raise ServingError(
                f"input {name!r} takes {info.dtype}; received {array.dtype}"
            )
        shape = (c_int64 * array.ndim)(*array.shape)
        of_text = info.dtype.kind == "O"
        size = array.size * _STRING_BYTES if of_text else array.nbytes
        tensor = self._library.TF_AllocateTensor(
            _NUMBERS[info.dtype], shape, array.ndim, size
        )
        place = self._library.TF_TensorData(tensor)
        if not of_text:
            flat = np.ascontiguousarray(array)
            ctypes.memmove(place, flat.ctypes.data, size)
            return tensor
        for number, value in enumerate(array.ravel()):
            text = value.encode() if isinstance(value, str) else bytes(value)
            string = c_void_p(place + number * _STRING_BYTES)
            self._library.TF_StringInit(string)
            self._library.TF_StringCopy(string, text, len(text))
        return tensor

    def _array(self, tensor: Any) -> np.ndarray:
        library = self._library
        dtype = np.dtype(_TYPES[library.TF_TensorType(tensor)])
        shape = tuple(
            library.TF_Dim(tensor, axis)
            for axis in range(library.TF_NumDims(tensor))
        )
        place = library.TF_TensorData(tensor)
        if dtype.kind != "O":
            size = library.TF_TensorByteSize(tensor)
            content = ctypes.string_at(place, size) if size else b""
            return np.frombuffer(content, dtype).reshape(shape)
        texts = []
        for number in range(int(np.prod(shape))):
            string = c_void_p(place + number * _STRING_BYTES)
            texts.append(
                ctypes.string_at(
                    library.TF_StringGetDataPointer(string),
                    library.TF_StringGetSize(string),
                )
            )
        return np.array(texts, dtype=object).reshape(shape)

    def _check(self, status: Any, what: str = "") -> None:
        """Raises what a status says, and ends it."""
        failed = self._library.TF_GetCode(status)
        message = self._library.TF_Message(status).decode()
        self._library.TF_DeleteStatus(status)
        if failed:
            raise ServingError(f"{what}{message}")


def _library() -> Any:
    """TensorFlow's C library, as the wheel has it."""
    found = importlib.util.find_spec("tensorflow")  # which imports nothing
    if found is None or found.origin is None:
        raise ServingError("TensorFlow is not installed.")
    path = Path(found.origin).parent / "libtensorflow_cc.so.2"
    library = ctypes.CDLL(str(path))
    pointers = {
        "TF_NewStatus": [],
        "TF_NewGraph": [],
        "TF_NewSessionOptions": [],
        "TF_LoadSessionFromSavedModel": [
            *(c_void_p, c_void_p, c_char_p, c_void_p, c_int),
            *(c_void_p, c_void_p, c_void_p),
        ],
        "TF_GraphOperationByName": [c_void_p, c_char_p],
        "TF_AllocateTensor": [c_int, c_void_p, c_int, c_size_t],
        "TF_TensorData": [c_void_p],
        "TF_StringGetDataPointer": [c_void_p],
    }
    texts = ("TF_Message",)
    sizes = ("TF_TensorByteSize", "TF_StringGetSize")
    for name, arguments in pointers.items():
        function = getattr(library, name)
        function.restype, function.argtypes = c_void_p, arguments
    for name in texts:
        function = getattr(library, name)
        function.restype, function.argtypes = c_char_p, [c_void_p]
    for name in sizes:
        function = getattr(library, name)
        function.restype, function.argtypes = c_size_t, [c_void_p]
    library.TF_NewBuffer.restype = POINTER(_Buffer)
    library.TF_DeleteBuffer.argtypes = [c_void_p]
    library.TF_SetConfig.argtypes = [c_void_p, c_char_p, c_size_t, c_void_p]
    library.TF_DeleteSessionOptions.argtypes = [c_void_p]
    library.TF_GetCode.argtypes = [c_void_p]
    library.TF_DeleteStatus.argtypes = [c_void_p]
    library.TF_DeleteTensor.argtypes = [c_void_p]
    library.TF_TensorType.argtypes = [c_void_p]
    library.TF_NumDims.argtypes = [c_void_p]
    library.TF_Dim.restype = c_int64
    library.TF_Dim.argtypes = [c_void_p, c_int]
    library.TF_StringInit.argtypes = [c_void_p]
    library.TF_StringCopy.argtypes = [c_void_p, c_char_p, c_size_t]
    library.TF_SessionRun.argtypes = [
        *(c_void_p, c_void_p, c_void_p, c_void_p, c_int),
        *(c_void_p, c_void_p, c_int, c_void_p, c_int, c_void_p, c_void_p),
    ]
    return library


def _signatures(meta_graph: bytes) -> Iterator[tuple[str, Signature]]:
    """Signatures of a serialized MetaGraphDef."""
    for number, entry in _fields(meta_graph):
        if number == 5:  # signature_def
            name, content = _entry(entry)
            if name != "__saved_model_init_op":
                parts = list(_fields(content))
                yield (
                    name,
                    Signature(
                        dict(_tensor_info(p) for n, p in parts if n == 1),
                        dict(_tensor_info(p) for n, p in parts if n == 2),
                    ),
                )


def _tensor_info(entry: bytes) -> tuple[str, TensorInfo]:
    name, content = _entry(entry)
    parts = dict(_fields(content))
    shape = []
    for number, dim in _fields(parts.get(3, b"")):
        if number == 2:
            size = dict(_fields(dim)).get(1, 0)
            shape.append(size - (1 << 64) if size >> 63 else size)
    dtype = np.dtype(_TYPES.get(parts[2], np.void))
    return name, TensorInfo(parts[1].decode(), dtype, tuple(shape))


def _entry(content: bytes) -> tuple[str, bytes]:
    """Key and value of a map."""
    parts = dict(_fields(content))
    return parts.get(1, b"").decode(), parts.get(2, b"")


def _fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """Number and content of each field of a protocol buffer message.

    Reference:
        - [Encoding](https://protobuf.dev/programming-guides/encoding)
    """
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = content[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(content):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        size = varint() if kind == 2 else {1: 8, 5: 4}[kind]
        if place + size > len(content):
            raise IndexError("it ends too early")
        yield key >> 3, content[place : place + size]
        place += size
