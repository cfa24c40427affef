"""SavedModels that are as small as the model, for TensorFlow Serving."""

import contextlib
import importlib.util
import json
import logging
import re
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_pep._keras_compat import layers_within
from keras_pep.data.fields import Vocabulary
from keras_pep.files import is_uri, whole_folder
from keras_pep.layers.pruned_embedding import PrunedEmbeddingMixin
from keras_pep.layers.storage import QUANTIZED
from keras_pep.layers.variables import native
from keras_pep.models.base import FieldModelMixin
from keras_pep.runtime import weights_of
from keras_pep.serving.compact import Tables, served_model, tables_of
from keras_pep.serving.renumbering import renumbering, reordered
from keras_pep.serving.sizes import (
    bytes_of,
    feature_sizes,
    field_sizes,
    table_sizes,
)
from keras_pep.serving.store import names_in, sent

if TYPE_CHECKING:
    from keras_pep.data import Dataset
    from keras_pep.serving.shapes import Input

RAW, IDS = "serving_default", "ids"
EXTRA = "assets.extra"  # a folder that TensorFlow Serving takes files from
DESCRIPTION = "keras_pep.json"

_WARM_UP = "tf_serving_warmup_requests"


class ExportError(RuntimeError):
    """A model cannot be exported; says why, and what to do.

    Example:

    ```python
    keras_pep.export_saved_model(model, "saved_models/fm/1")
    try:
        keras_pep.export_saved_model(model, "saved_models/fm/1")
    except keras_pep.serving.ExportError as error:
        print(error)  # ... exists: choose another version, or remove it.
    ```
    """


@dataclass(frozen=True)
class Export:
    """A SavedModel that has been written, and its sizes.

    Attributes:
        path: The version's directory; text if it is a URI.
        report: What it holds, by tables, fields and bytes. It is in the
            directory too, as `assets.extra/keras_pep.json`.

    Example:

    ```python
    made = keras_pep.export_saved_model(model, "saved_models/fm/1")
    print(made.path, made.report["table_bytes"])
    ```
    """

    path: Path | str
    report: Mapping[str, Any]


def export_saved_model(
    model: keras.Model,
    path: str | Path,
    dataset: "Dataset | Mapping[str, Vocabulary] | None" = None,
    quantize: str | None = None,
    *,
    keep_vocabulary: bool | None = None,
    more: Mapping[str, Any] | None = None,
) -> Export:
    """Writes a SavedModel that TensorFlow Serving takes as it is.

    Its tables are stored in the fewest bytes, every variable once, and its
    graph has standard ops alone. With a dataset it has two signatures: the
    default one takes the raw value of each field, `(batch,)`, and `ids` takes
    int32 `(batch, columns)`; `probability` is float32 `(batch,)`. Values that
    training has not seen count as the field's unknown, or nothing at all if it
    has none; ids out of range make the probability of their row NaN. Inputs of
    another shape are an error, which says so. Without a dataset there is `ids`
    alone, as the default too; and for a model that is not of `keras_pep.models`
    what it takes and returns, by Keras' names. Of `keras_pep.tfrs`, a
    `RankingModel` is exported as its scorer, and a `RetrievalModel` takes
    users and returns their best items, see there.

    Features of which no table has kept anything leave the vocabulary if that
    changes no score: where unknown values count nothing, too.

    Args:
        model: What to export; it is left as it is. Logits come out of it, if
            it is one of `keras_pep.models`.
        path: The version's directory, such as `saved_models/clicks/1`. It
            appears when it is complete. In an object store,
            `"s3://bucket/clicks/1"`, `saved_model.pb` comes last.
        dataset: Whose fields the model takes, or their vocabularies.
        quantize: Type of the tables' values: None for float32, `"float16"`, or
            `"int8"` with one scale for a table, or one for each row where
            that would round too roughly.
        keep_vocabulary: True: no feature leaves the vocabulary. False: all do
            of which nothing was kept; their values count as unknown ones then,
            their ids still as nothing.
        more: What the description in the directory is to say besides, as JSON.

    Returns:
        Where it is, and what it takes.

    Raises:
        ExportError: If there is something at `path`, or it cannot be written,
            or Keras does not run on TensorFlow.
        ValueError: If the model cannot be stored, or the dataset is another's.

    Example:

    ```python
    made = keras_pep.export_saved_model(
        model, "saved_models/fm/1", quantize="int8"
    )
    print(made.report["table_bytes"])
    ```
    """
    if is_uri(path):
        try:
            with sent(str(path)) as local:
                made = export_saved_model(
                    *(model, local, dataset, quantize),
                    keep_vocabulary=keep_vocabulary,
                    more=more,
                )
        except FileExistsError as error:
            raise _existing(path) from error
        except OSError as error:
            raise ExportError(f"{path}: cannot be written: {error}") from error
        return replace(made, path=str(path))
    path = Path(path)
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            "A SavedModel needs TensorFlow: save the model as .keras, and "
            "export it with KERAS_BACKEND=tensorflow. "
            f"Found: {keras.backend.backend()}."
        )
    if quantize not in (None, *QUANTIZED):
        raise ValueError(
            f"`quantize` must be None or one of {QUANTIZED}. "
            f"Received: quantize={quantize!r}"
        )
    _refuse_existing(path)
    if _is_of_tfrs(model, "RankingModel"):
        model = model.scorer
    if isinstance(model, FieldModelMixin) and not model.built:
        model.build()
    vocabularies: Mapping[str, Vocabulary] | None = None
    if dataset is not None:
        vocabularies = (
            dataset if isinstance(dataset, Mapping) else dataset.vocabularies
        )
        check_fields(model, vocabularies)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(path) as partial:
            report = _write(
                *(model, partial, vocabularies, quantize, keep_vocabulary),
                more or {},
            )
    except OSError as error:
        _refuse_existing(path)  # another process was faster
        raise ExportError(
            f"{path}: cannot be written: {error.strerror or error}."
        ) from error
    return Export(path, {**report, "files_bytes": files_bytes(path)})


def _is_of_tfrs(model: keras.Model, name: str) -> bool:
    """Tell whether a model is of a class of `keras_pep.tfrs`."""
    tfrs = sys.modules.get("keras_pep.tfrs")
    return tfrs is not None and isinstance(model, getattr(tfrs, name))


def next_version(folder: Path | str) -> int:
    """Return the version after the last in a model's folder, from 1 on.

    Example:

    ```python
    keras_pep.serving.next_version(Path("saved_models/new"))  # 1
    ```
    """
    names: list[str] = []
    if is_uri(folder):
        try:
            names = names_in(str(folder))
        except OSError as error:
            raise ExportError(f"{folder}: cannot be read: {error}") from error
    elif Path(folder).is_dir():
        names = [each.name for each in Path(folder).iterdir()]
    return max((int(name) for name in names if name.isdecimal()), default=0) + 1


def files_bytes(path: Path) -> int:
    """Add up the sizes of all files of a directory."""
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def _refuse_existing(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise _existing(path)


def _existing(path: Path | str) -> ExportError:
    return ExportError(f"{path} exists: choose another version, or remove it.")


def check_fields(
    model: keras.Model, vocabularies: Mapping[str, Vocabulary]
) -> None:
    """Refuses vocabularies of other fields than a model takes.

    Raises:
        ValueError: If they are, or the model has no fields.
    """
    if not isinstance(model, FieldModelMixin):
        raise ValueError(
            "Only models of `keras_pep.models` have fields: export other "
            f"models without a dataset. Received: {type(model).__name__}"
        )
    sizes = tuple(len(v) for v in vocabularies.values())
    lengths = tuple(v.field.length for v in vocabularies.values())
    if (model.field_sizes, model.field_lengths) != (sizes, lengths):
        raise ValueError(
            "The model takes other fields than the dataset has. Received: "
            f"model of field_sizes={model.field_sizes}, dataset of {sizes}"
        )


def _write(
    model: keras.Model,
    folder: Path,
    vocabularies: Mapping[str, Vocabulary] | None,
    quantize: str | None,
    keep_vocabulary: bool | None,
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """Writes the SavedModel, and says what it holds."""
    import tensorflow as tf

    from keras_pep.serving import signatures

    found = tables_of(model)
    shapes = {name: table.shape for name, (_, table) in found.items()}
    root = tf.Module()
    # TensorFlow copies the vocabularies to its assets.
    sources = folder / "vocabularies"
    sources.mkdir()
    fields: list[dict[str, Any]] = []
    root.numberings = {}
    if vocabularies is not None:
        assert isinstance(model, FieldModelMixin)
        numbers_now = _renumber(model, found, quantize)
        root.numberings, fields = _numberings(
            *(model, found, vocabularies, quantize, keep_vocabulary),
            *(sources, numbers_now),
        )
    without_unknown = [not v.unknown for v in (vocabularies or {}).values()]
    served = served_model(model, quantize, without_unknown, found)
    root.model_variables = [native(w) for w in weights_of(served)]
    root.lookup_tables = [
        layer.lookup_table
        for layer in layers_within(served)
        if hasattr(layer, "lookup_table")
    ]
    made: dict[str, signatures.SavedFunction] = {}
    if isinstance(model, FieldModelMixin):
        made[IDS] = made[RAW] = signatures.by_ids(
            served, model, root.numberings
        )
        if vocabularies is not None:
            made[RAW] = signatures.by_raw_values(served, root.numberings)
    elif _is_of_tfrs(served, "RetrievalModel"):
        made[RAW], root.constants = signatures.by_user(served)
    else:
        made[RAW] = signatures.as_it_is(served)
    try:
        with _quiet("absl"), _quiet("tensorflow"):
            tf.saved_model.save(
                root,
                str(folder),
                signatures={name: each.function for name, each in made.items()},
            )
    except tf.errors.OpError as error:  # such as that of a full disk
        raise OSError(error.message) from error
    shutil.rmtree(sources)
    _declare(
        folder / "saved_model.pb", {k: each.inputs for k, each in made.items()}
    )
    layouts = {
        layer.name: layer.layout
        for layer in layers_within(served)
        if isinstance(layer, PrunedEmbeddingMixin)
    }
    sizes = table_sizes(shapes, layouts)
    report = {
        "model": type(model).__name__,
        "quantize": quantize,
        **sizes,
        "vocabulary_bytes": sum(f["vocabulary_bytes"] for f in fields),
        "other_bytes": bytes_of(weights_of(served)) - sizes["table_bytes"],
        "fields": fields,
        **more,
    }
    (folder / EXTRA).mkdir(exist_ok=True)
    if fields:
        report["warm_up"] = _write_warm_up(folder / EXTRA, fields)
    (folder / EXTRA / DESCRIPTION).write_text(
        json.dumps(report, indent=1) + "\n", encoding="utf-8"
    )
    return report


def _renumber(
    model: FieldModelMixin, found: Tables, quantize: str | None
) -> np.ndarray | None:
    """Reorder tables if that saves bytes.

    Returns:
        Of each row, which row it is now; None if it is the same.
    """
    tables = {name: table for name, (_, table) in found.items()}
    order = renumbering(model, tables, quantize)
    if order is None:
        return None
    for name, table in reordered(tables, order).items():
        found[name] = found[name][0], table
    return np.argsort(order)


def _numberings(
    model: FieldModelMixin,
    found: Tables,
    vocabularies: Mapping[str, Vocabulary],
    quantize: str | None,
    keep_vocabulary: bool | None,
    folder: Path,
    numbers_now: np.ndarray | None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Make the numbering of raw values, and the description, of each field."""
    from keras_pep.serving.raw import Numbering, input_of, write_vocabulary

    tables = {name: table for name, (_, table) in found.items()}
    kept = feature_sizes(model, tables)
    ends = np.cumsum(model.field_sizes)
    if numbers_now is not None:
        kept = kept[numbers_now]
    numberings = {}
    fields = field_sizes(model, list(vocabularies), tables, quantize)
    # What an embedding of another kind keeps is not known.
    known = any(layer is model.embedding for layer, _ in found.values())
    for place, (field, vocabulary, sizes) in enumerate(
        zip(
            *(fields, vocabularies.values(), np.split(kept, ends[:-1])),
            strict=True,
        )
    ):
        gone = (sizes == 0) & (np.arange(sizes.size) >= vocabulary.unknown)
        changes = bool(vocabulary.unknown and sizes[0])
        wanted = changes if keep_vocabulary is None else keep_vocabulary
        if wanted or not known:
            gone[:] = False
        if numbers_now is None and vocabulary.field.kind == "hash":
            gone[:] = True  # a bucket's number is its id
        plain = re.sub("[^a-zA-Z0-9_-]", "_", field["name"])[:40]
        path = folder / f"vocabulary-{place}-{plain}.tsv"
        ids, unknown = None, 0 if vocabulary.unknown else len(vocabulary)
        if numbers_now is not None:
            start = ends[place] - len(vocabulary)
            ids = numbers_now[start : ends[place]] - start
            unknown = int(ids[0]) if vocabulary.unknown else unknown
        size = write_vocabulary(vocabulary, path, gone, ids)
        numberings[field["name"]] = Numbering(vocabulary, path, unknown, ids)
        field.update(
            column=vocabulary.field.column,
            kind=vocabulary.field.kind,
            edges=list(vocabulary.field.edges),
            time_format=vocabulary.field.time_format,
            input=input_of(vocabulary).name,
            example=_example(vocabulary),
            vocabulary=len(vocabulary.values) - int(gone.sum()),
            # Values that counted nothing and now count as unknown ones do.
            now_unknown=int(gone.sum()) * changes,
            vocabulary_bytes=size,
        )
    return numberings, fields


def _example(vocabulary: Vocabulary) -> Any:
    """Make up a raw value that the field might have."""
    kind = vocabulary.field.kind
    if kind in ("number", "log"):
        return 1.0
    if kind in ("hour", "weekday"):
        import datetime

        form = vocabulary.field.time_format or "%Y-%m-%d %H:%M:%S"
        return datetime.datetime(2026, 11, 22, 10, 0, 0).strftime(form)
    values = vocabulary.texts().drop_null()  # of ids that are free
    if not len(values) or kind == "hash":
        return ""
    value = values[len(values) // 2].as_py()
    return int(value) if vocabulary.integers else str(value)


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keeps what TensorFlow says of its files to itself."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _declare(
    path: Path, signatures: Mapping[str, Mapping[str, "Input"]]
) -> None:
    """Give inputs the names and shapes that clients are to know them by.

    TensorFlow has them by their arguments, and of any shape.

    Args:
        path: The `saved_model.pb`.
        signatures: Inputs of each signature, by argument.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    content = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for graph in content.meta_graphs:
        for name, declared in signatures.items():
            inputs = graph.signature_def[name].inputs
            found = {argument: inputs.pop(argument) for argument in declared}
            for argument, each in declared.items():
                inputs[each.name].CopyFrom(found[argument])
                shape = inputs[each.name].tensor_shape
                shape.Clear()
                for size in each.shape:
                    shape.dim.add(size=-1 if size is None else size)
    path.write_bytes(content.SerializeToString(deterministic=True))


def _write_warm_up(folder: Path, fields: Collection[Mapping[str, Any]]) -> bool:
    """Writes a request that TensorFlow Serving makes before it is ready.

    Returns:
        Whether tensorflow-serving-api is installed, which this needs.
    """
    if importlib.util.find_spec("tensorflow_serving") is None:
        return False
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = RAW
    for field in fields:
        request.inputs[field["name"]].CopyFrom(
            tf.make_tensor_proto([field["example"]], field["input"])
        )
    log = prediction_log_pb2.PredictionLog(
        predict_log=prediction_log_pb2.PredictLog(request=request)
    )
    with tf.io.TFRecordWriter(str(folder / _WARM_UP)) as writer:
        writer.write(log.SerializeToString())
    return True
