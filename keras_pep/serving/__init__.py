"""From a trained model to one that is served: SavedModels that are small."""

from keras_pep.serving.compact import served_model, tables_of
from keras_pep.serving.description import (
    Description,
    describe,
    find_saved_model,
    signature_lines,
)
from keras_pep.serving.export import (
    Export,
    ExportError,
    check_fields,
    export_saved_model,
    next_version,
)
from keras_pep.serving.sizes import (
    field_rows,
    field_sizes,
    size_table,
    table_sizes,
)

__all__ = [
    "Description",
    "Export",
    "ExportError",
    "check_fields",
    "describe",
    "export_saved_model",
    "field_rows",
    "field_sizes",
    "find_saved_model",
    "next_version",
    "served_model",
    "signature_lines",
    "size_table",
    "table_sizes",
    "tables_of",
]
