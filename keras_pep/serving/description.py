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
            report = json.loads(text)
        content = (path / "saved_model.pb").read_bytes()
        return Description(path, read_signatures(content), report)
    except (OSError, ValueError) as error:
        raise ExportError(f"{path} is damaged: {error!r}.") from error


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
                dtype = "string" if info.dtype.kind == "O" else info.dtype
                shape = ", ".join(
                    "batch" if size < 0 else str(size) for size in info.shape
                )
                lines.append(f"  {way} {tensor}: {dtype} ({shape})")
    return lines
