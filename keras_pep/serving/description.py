"""Descriptions of SavedModels: tables, sizes, inputs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from keras_pep.serving.export import DESCRIPTION, EXTRA, ExportError

_OF_INITIALIZATION = "__saved_model_init_op"


class TensorInfo(NamedTuple):
    """An input or output of a signature.

    Attributes:
        name: Of the tensor in the graph, `"operation:0"`.
        dtype: As TensorFlow calls it, such as `"string"`.
        shape: -1 where any length will do; None if any rank will.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None


class Signature(NamedTuple):
    """Inputs and outputs by their names."""

    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]


@dataclass(frozen=True)
class Description:
    """A SavedModel without its weights.

    Attributes:
        path: The version's directory.
        signatures: By name.
        report: What `export_saved_model` has said of it; empty if another has
            written it.

    Example:

    ```python
    found = keras_pep.serving.describe(Path("saved_models/exported/1"))
    print([*found.signatures])
    ```
    """

    path: Path
    signatures: Mapping[str, Signature]
    report: Mapping[str, Any]


def find_saved_model(path: Path) -> Path | None:
    """Find a SavedModel: a version, or the last version of a model.

    Example:

    ```python
    keras_pep.serving.find_saved_model(Path("saved_models/exported"))
    ```
    """
    if (path / "saved_model.pb").is_file():
        return path
    versions = [
        each
        for each in path.glob("*")
        if each.name.isdecimal() and (each / "saved_model.pb").is_file()
    ]
    return max(versions, key=lambda each: int(each.name), default=None)


def describe(path: Path) -> Description:
    """Reads what is written of a SavedModel.

    Args:
        path: The version's directory.

    Raises:
        ExportError: If it is damaged.

    Example:

    ```python
    found = keras_pep.serving.describe(Path("saved_models/exported/1"))
    print(found.report["table_bytes"])
    ```
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        report = {}
        if (path / EXTRA / DESCRIPTION).is_file():
            text = (path / EXTRA / DESCRIPTION).read_text(encoding="utf-8")
            report = _checked(json.loads(text))
        content = (path / "saved_model.pb").read_bytes()
        signatures = {
            name: Signature(
                _tensors(signature.inputs), _tensors(signature.outputs)
            )
            for graph in saved_model_pb2.SavedModel.FromString(
                content
            ).meta_graphs
            for name, signature in graph.signature_def.items()
            if name != _OF_INITIALIZATION
        }
        if not signatures:
            raise ValueError("saved_model.pb has no signatures")
        return Description(path, signatures, report)
    except (OSError, ValueError) as error:
        raise ExportError(f"{path} is damaged: {error!r}.") from error
    except (DecodeError, TypeError) as error:
        raise ExportError(
            f"{path} is damaged: saved_model.pb: {error}."
        ) from error


def _tensors(tensors: Mapping[str, Any]) -> dict[str, TensorInfo]:
    """Inputs or outputs, by name; a protocol buffer has them in no order."""
    import tensorflow as tf

    return {
        name: TensorInfo(
            info.name,
            tf.dtypes.as_dtype(info.dtype).name,
            None
            if info.tensor_shape.unknown_rank
            else tuple(dim.size for dim in info.tensor_shape.dim),
        )
        for name, info in sorted(tensors.items())
    }


def _checked(report: Any) -> dict[str, Any]:
    """Return the report, if it has what is read of one.

    Raises:
        ValueError: If it has not.
    """
    report = report if isinstance(report, dict) else {}
    tables = report.get("tables")
    tables = [*tables.values()] if isinstance(tables, dict) else None
    for what, parts, known in (
        ("fields", report.get("fields"), _OF_A_FIELD),
        ("tables", tables, _OF_A_TABLE),
    ):
        if not isinstance(parts, list) or not all(
            isinstance(part, dict) and {*known} <= {*part} for part in parts
        ):
            raise ValueError(f"{DESCRIPTION} does not describe {what}")
    if not all(isinstance(report.get(size), int) for size in _SIZES):
        raise ValueError(f"{DESCRIPTION} does not say sizes")
    return dict(report)


_OF_A_FIELD = (
    *("name", "column", "kind", "time_format"),
    *("features", "kept_features", "kept_parameters", "bytes"),
)
_OF_A_TABLE = (
    *("storage", "values", "rows", "columns"),
    *("kept_parameters", "kept_rows"),
)
_SIZES = ("table_bytes_dense", "table_bytes", "vocabulary_bytes", "other_bytes")


def signature_lines(signatures: Mapping[str, Signature]) -> list[str]:
    """Inputs and outputs of each signature, as a person reads them.

    Example:

    ```python
    found = keras_pep.serving.describe(Path("saved_models/exported/1"))
    print(*keras_pep.serving.signature_lines(found.signatures), sep="\\n")
    ```
    """
    lines = []
    for name, signature in signatures.items():
        lines.append(f"signature {name}")
        for way, tensors in (
            ("takes", signature.inputs),
            ("returns", signature.outputs),
        ):
            for tensor, info in tensors.items():
                shape = "any shape"
                if info.shape is not None:
                    sizes = ("batch" if s < 0 else str(s) for s in info.shape)
                    shape = f"({', '.join(sizes)})"
                lines.append(f"  {way} {tensor}: {info.dtype} {shape}")
    return lines
