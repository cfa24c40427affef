"""What a SavedModel holds, and what it takes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_pep.serving.c_runtime import Signature, read_signatures
from keras_pep.serving.export import DESCRIPTION, EXTRA, ExportError


@dataclass(frozen=True)
class Description:
    """A SavedModel without its weights.

    Attributes:
        path: The version's directory.
        signatures: By name.
        report: What `export_saved_model` has said of it; empty if another has
            written it.
    """

    path: Path
    signatures: Mapping[str, Signature]
    report: Mapping[str, Any]


def find_saved_model(path: Path) -> Path | None:
    """The directory of a SavedModel: a version's, or a model's last version."""
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
    """
    try:
        report = {}
        if (path / EXTRA / DESCRIPTION).is_file():
            text = (path / EXTRA / DESCRIPTION).read_text(encoding="utf-8")
            report = _checked(json.loads(text))
        content = (path / "saved_model.pb").read_bytes()
        signatures = read_signatures(content)
        if not signatures:
            raise ValueError("saved_model.pb has no signatures")
        return Description(path, signatures, report)
    except (OSError, ValueError, KeyError) as error:
        raise ExportError(f"{path} is damaged: {error!r}.") from error


def _checked(report: Any) -> dict[str, Any]:
    """The report, if it has what is read of one.

    Raises:
        ValueError: If it has not.
    """
    fields = report["fields"] if isinstance(report, dict) else None
    known = {*_OF_A_FIELD}
    if not isinstance(fields, list) or not all(
        isinstance(field, dict) and known <= {*field} for field in fields
    ):
        raise ValueError(f"{DESCRIPTION} does not describe fields")
    tables = report.get("tables")
    if not isinstance(tables, dict) or not all(
        isinstance(table, dict) and {*_OF_A_TABLE} <= {*table}
        for table in tables.values()
    ):
        raise ValueError(f"{DESCRIPTION} does not describe tables")
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
    """Inputs and outputs of each signature, as a person reads them."""
    lines = []
    for name, signature in signatures.items():
        lines.append(f"signature {name}")
        for way, tensors in (
            ("takes", signature.inputs),
            ("returns", signature.outputs),
        ):
            for tensor, info in tensors.items():
                kinds = {"O": "string", "V": "another type"}
                dtype = kinds.get(info.dtype.kind, info.dtype)
                shape = ", ".join(
                    "batch" if size < 0 else str(size) for size in info.shape
                )
                lines.append(f"  {way} {tensor}: {dtype} ({shape})")
    return lines
