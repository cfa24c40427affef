"""Bytes of a served model, by tables and by fields."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_pep.layers.storage import Layout
from keras_pep.models.base import FieldModelMixin
from keras_pep.serving.compact import layout_of
from keras_pep.sparse import SparseTable


def bytes_of(variables: Iterable[keras.Variable]) -> int:
    """Add up the bytes of variables."""
    return sum(
        int(np.prod(v.shape))
        * np.dtype(keras.backend.standardize_dtype(v.dtype)).itemsize
        for v in variables
    )


def table_sizes(
    shapes: Mapping[str, tuple[int, int]], layouts: Mapping[str, Layout]
) -> dict[str, Any]:
    """Describe how each table is stored, and in how many bytes.

    Args:
        shapes: Rows and columns of each table, by its name.
        layouts: How each is stored; of a served model, with a row more for
            each field without an id for unknown values.
    """
    tables: dict[str, dict[str, Any]] = {
        name: {
            "rows": rows,
            "columns": columns,
            "kept_parameters": layouts[name].num_values,
            "kept_rows": layouts[name].num_rows,
            "storage": layouts[name].storage,
            "values": layouts[name].quantize or "float32",
            "bytes_dense": 4 * rows * columns,
            "bytes": layouts[name].bytes,
        }
        for name, (rows, columns) in shapes.items()
    }
    sums = {
        f"table_{key}": sum(table[key] for table in tables.values())
        for key in ("bytes_dense", "bytes")
    }
    return {"tables": tables, **sums}


def feature_sizes(
    model: FieldModelMixin, tables: Mapping[str, SparseTable]
) -> np.ndarray:
    """Kept entries of each feature, in all tables: int32 `(features,)`."""
    sizes = np.zeros(sum(model.field_sizes), dtype=np.int32)
    for table in of_features(model, tables).values():
        sizes += np.diff(table.row_splits)
    return sizes


def of_features(
    model: FieldModelMixin, tables: Mapping[str, SparseTable]
) -> dict[str, SparseTable]:
    """Select the tables that have a row for each feature."""
    features = sum(model.field_sizes)
    return {n: t for n, t in tables.items() if t.shape[0] == features}


def field_sizes(
    model: FieldModelMixin,
    names: Sequence[str],
    tables: Mapping[str, SparseTable],
    quantize: str | None,
) -> list[dict[str, Any]]:
    """Count what each field keeps, and its share of the tables' bytes."""
    tables = of_features(model, tables)
    kept = feature_sizes(model, tables)
    layouts = {name: layout_of(t, quantize) for name, t in tables.items()}
    ends = np.cumsum(model.field_sizes)
    return [
        {
            "name": name,
            "features": size,
            "kept_features": int((kept[end - size : end] > 0).sum()),
            "kept_parameters": int(kept[end - size : end].sum()),
            "bytes": sum(
                layouts[t].bytes_of(
                    np.diff(table.row_splits[end - size : end + 1])
                )
                for t, table in tables.items()
            ),
        }
        for name, size, end in zip(names, model.field_sizes, ends, strict=True)
    ]


def size_table(report: Mapping[str, Any]) -> str:
    """Write a table of bytes: tables, vocabularies and the rest.

    Example:

    ```python
    made = keras_pep.export_saved_model(model, "saved_models/fm/1")
    print(keras_pep.serving.size_table(made.report))
    ```
    """
    lines = [
        f"{name}: {table['storage']} of {table['values']}, "
        f"{table['kept_parameters']:,} of {table['rows']:,} x "
        f"{table['columns']} entries in {table['kept_rows']:,} rows"
        for name, table in report["tables"].items()
    ]
    dense, stored = report["table_bytes_dense"], report["table_bytes"]
    times = f" ({dense / stored:.1f} x smaller)" if stored else ""
    lines.append(f"tables: {stored:,} bytes, {dense:,} if dense{times}")
    gone = sum(field.get("now_unknown", 0) for field in report["fields"])
    if gone:
        lines.append(
            f"{gone:,} values that counted nothing have left the vocabularies "
            "and count as unknown ones do"
        )
    for name, of in (
        ("vocabularies", "vocabulary_bytes"),
        ("other weights", "other_bytes"),
        ("all files", "files_bytes"),
    ):
        if of in report:
            lines.append(f"{name}: {report[of]:,} bytes")
    return "\n".join(lines)


def field_rows(fields: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Write a line for each field, below one of titles."""
    titles = ("features", "kept", "parameters", "mean size", "bytes")
    rows: list[tuple[str, ...]] = [("field", *titles)]
    for field in fields:
        counts = ("features", "kept_features", "kept_parameters")
        mean = field["kept_parameters"] / field["features"]
        numbers = [f"{field[count]:,}" for count in counts]
        numbers += [f"{mean:.2f}", f"{field['bytes']:,}"]
        rows.append((field["name"], *numbers))
    return rows
