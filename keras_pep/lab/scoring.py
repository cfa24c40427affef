"""`keras-pep predict`: probabilities of the rows of a file."""

import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from keras_pep import metrics
from keras_pep.data import DataError
from keras_pep.data import rows as raw
from keras_pep.data.checked import FEWER_LINES, expected
from keras_pep.data.fields import LONGEST_LIST, Field, Vocabulary
from keras_pep.data.numbering import Encoder
from keras_pep.data.rows import Block, Files, Malformed
from keras_pep.data.spelling import spelled
from keras_pep.data.times import as_texts, numbers
from keras_pep.files import whole
from keras_pep.serving.compact import served_model
from keras_pep.serving.description import Description, TensorInfo
from keras_pep.serving.export import RAW, ExportError, check_fields

logger = logging.getLogger(__name__)

_AT_ONCE = 8192  # rows that are scored at once
_INTEGER = re.compile("0|-?[1-9][0-9]{0,18}")

# Probabilities of the rows of a block.
Score = Callable[[Block], np.ndarray]


def score_file(
    score: Score,
    columns: tuple[str, ...],
    source: Path,
    target: Path,
    delimiter: str | None = None,
    usual: Files | None = None,
    vocabularies: Collection[Vocabulary] = (),
) -> int:
    """Write the probability of each row of a file, in the same order.

    It logs all that is read in a way that the user might not expect.

    Args:
        score: What computes them.
        columns: Those of the source that it needs.
        source: A .csv, .tsv or .parquet file with these columns, or a folder
            of such files.
        target: A .csv, .tsv or .parquet file with the column `probability`.
        delimiter: Between columns of the source; by default the usual one if
            its header has the columns then, else by the ending of its name.
        usual: How files are written that are like those of the training, if
            the endings of their names do not say it.
        vocabularies: What the model knows. For each column of which it knows
            nearly no value a line is logged.

    Returns:
        Number of rows.

    Raises:
        DataError: If a column is missing, or a row or a value is malformed.
    """
    files = _files(source, columns, delimiter, usual)
    ending = target.suffix.lower()
    if ending not in (".csv", ".tsv", ".parquet"):
        raise DataError(
            f"{target}: expected a name that ends in .csv, .tsv or .parquet."
        )
    if not target.parent.is_dir():
        raise DataError(f"{target.parent}: no such folder.")
    count = 0
    familiar = [_Familiar(each) for each in vocabularies]
    try:
        with whole(target) as partial, _writer(partial, ending) as writer:
            for block in _well_formed(files, columns):
                probabilities = pa.array(score(block), pa.float32())
                writer.write_table(pa.table([probabilities], schema=_SCHEMA))
                count += len(block)
                for each in familiar:
                    each.add(block)
    except OSError as error:
        raise DataError(
            f"{target}: cannot be written: {error.strerror or error}."
        ) from error
    notes = {each.column: note for each in familiar if (note := each.note())}
    for note in notes.values():
        logger.info(note)
    return count


_FEW = 0.05  # share of known values below which a column looks misread


class _Familiar:
    """Counts the rows whose value of a field a model knows.

    Args:
        vocabulary: What it knows.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.column = vocabulary.field.column
        self._field = vocabulary.field
        self._values = vocabulary.values
        self._encoder = Encoder(vocabulary, len(vocabulary))
        self._unknown = len(vocabulary)
        self._example = ""
        self._rows = self._known = 0

    def add(self, block: Block) -> None:
        """Count the rows of a block."""
        column = block.columns[self.column]
        values = column.values
        if self._field.kind not in ("category", "text"):
            values, _ = self._field.values(values)
        ids = self._encoder.ids(values)
        known = ((ids >= 0) & (ids != self._unknown)).any(axis=1)[column.codes]
        if not self._known and not known.all():
            code = int(column.codes[int(known.argmin())])
            self._example = self._example or column.values[code].as_py()[:80]
        self._rows += len(block)
        self._known += int(known.sum())

    def note(self) -> str:
        """Say that nearly no value is known; `""` if more are."""
        if not len(self._values) or not self._rows:
            return ""
        if self._known >= max(_FEW * self._rows, 1):
            return ""
        learned = ""
        if self._field.kind in ("category", "text", "list"):
            value = str(self._values[len(self._values) // 2])[:80]
            learned = f", expected such as {value!r}"
        return (
            f"{self.column}: of {self._rows:,} rows {self._known:,} have a "
            f"value that the model knows; found such as {self._example!r}"
            f"{learned}. Is it written as it was for training? All other "
            "values count as unknown."
        )


def _files(
    source: Path,
    columns: tuple[str, ...],
    delimiter: str | None,
    usual: Files | None,
) -> Files:
    """Choose the first delimiter by which files have the columns."""
    given = [delimiter]
    if usual is not None and delimiter is None:
        if usual.names:
            named = raw.without_header(
                raw.files_of(source, None, logger.info), usual, columns
            )
            if named is not None:
                return named
        given = [usual.delimiter, None]
    error = None
    for each in given:
        notes: list[str] = []
        files = raw.files_of(source, each, notes.append)
        found = raw.header(files, notes.append)
        missing = [name for name in columns if name not in found]
        if not missing:
            for note in notes:
                logger.info(note)
            return files
        error = error or raw.no_column(files, missing, found)
    assert error is not None
    raise error


_SCHEMA = pa.schema([("probability", pa.float32())])


def _writer(path: Path, ending: str) -> Any:
    if ending == ".parquet":
        return pa.parquet.ParquetWriter(path, _SCHEMA)
    return pa.csv.CSVWriter(path, _SCHEMA)


def _well_formed(files: Files, columns: tuple[str, ...]) -> Iterator[Block]:
    malformed = Malformed()
    for block in raw.blocks(files, columns, malformed):
        if malformed.first:
            break
        for name in columns:
            _refuse(block, name, block.lines(name) > 0, FEWER_LINES)
        yield block
    if malformed.first:
        raise DataError(f"{malformed.first()}. Nothing was written.")


def scorer_of_model(
    model: keras.Model, vocabularies: Mapping[str, Vocabulary]
) -> tuple[Score, tuple[str, ...]]:
    """Make a function that computes probabilities with a Keras model.

    Args:
        model: One of `keras_pep.models`.
        vocabularies: Of its fields.

    Returns:
        The function, and the columns it needs.

    Raises:
        ValueError: If they are of other fields.
    """
    check_fields(model, vocabularies)
    served = served_model(
        model, without_unknown=[not v.unknown for v in vocabularies.values()]
    )
    encoders = [
        Encoder(v, 0 if v.unknown else len(v)) for v in vocabularies.values()
    ]

    def score(block: Block) -> np.ndarray:
        ids = []
        for vocabulary, encoder in zip(
            vocabularies.values(), encoders, strict=True
        ):
            field = vocabulary.field
            column = block.columns[field.column]
            values = column.values
            if field.kind != "category":
                values, bad = field.values(values.to_numpy(False))
                _refuse(block, field.column, bad, expected(field))
            ids.append(encoder.ids(values)[column.codes].astype(np.int32))
        logits = metrics.predict(served, np.concatenate(ids, axis=1))
        return 1 / (1 + np.exp(-logits.reshape(-1).astype(np.float64)))

    columns = [v.field.column for v in vocabularies.values()]
    return score, tuple(dict.fromkeys(columns))


def scorer_of_saved_model(
    description: Description,
) -> tuple[Score, tuple[str, ...]]:
    """Load what computes probabilities as TensorFlow Serving does.

    Args:
        description: Of a SavedModel with raw values as its default inputs.

    Returns:
        The function, and the columns it needs.

    Raises:
        ExportError: If it takes something else, or cannot be loaded.
    """
    import tensorflow as tf

    fields = description.report.get("fields")
    if not fields:
        raise ExportError(
            f"{description.path} does not take raw values: export it with the "
            "dataset, or by keras-pep export."
        )
    try:
        loaded = tf.saved_model.load(str(description.path))
        inputs = {
            field["name"]: description.signatures[RAW].inputs[field["name"]]
            for field in fields
        }
    except Exception as error:  # whatever TensorFlow meets
        line = str(error).partition("\n")[0]
        raise ExportError(f"{description.path} is damaged: {line}.") from error

    earlier = [_earlier(description.path, n) for n in range(len(fields))]

    def score(block: Block) -> np.ndarray:
        given = {}
        for field, known in zip(fields, earlier, strict=True):
            kind, column = field["kind"], block.columns[field["column"]]
            texts = column.values.to_numpy(False)
            if known and kind == "category":
                now = spelled(as_texts(texts)).to_pylist()
                texts = np.array(
                    [
                        known.get(text, known.get(new, text))
                        for text, new in zip(texts, now, strict=True)
                    ],
                    object,
                )
            form = field["time_format"]
            of = Field("", "", kind, time_format=form, buckets=1)
            bad = of.values(texts)[1]
            _refuse(block, field["column"], bad, expected(of))
            info = inputs[field["name"]]
            given[_argument(info)] = _typed(texts, info.dtype), column.codes
        parts = []
        for start in range(0, len(block), _AT_ONCE):
            rows = slice(start, start + _AT_ONCE)
            batch = {
                name: tf.constant(values[codes[rows]])
                for name, (values, codes) in given.items()
            }
            answer = loaded.signatures[RAW](**batch)
            parts.append(answer["probability"].numpy())
        return np.concatenate(parts)

    return score, tuple(dict.fromkeys(field["column"] for field in fields))


def vocabularies_of(description: Description) -> list[Vocabulary]:
    """Read what a SavedModel knows of each field.

    Fields are left out of which nothing was kept, and those whose vocabulary
    lacks the features of which nothing was kept: there it is no surprise that
    a value is unknown.

    Args:
        description: Of a SavedModel with raw values as its default inputs.
    """
    found = []
    for place, field in enumerate(description.report["fields"]):
        values = _known_values(description.path, place)
        if (
            not values
            or field["kind"] == "hash"
            or field.get("vocabulary", 0) < field["features"] - 1
        ):
            continue
        of = Field(
            *(field["name"], field["column"], field["kind"]),
            edges=tuple(field.get("edges", ())),
            time_format=field["time_format"],
            length=LONGEST_LIST if field["kind"] == "list" else 1,
        )
        made = np.array(values, dtype=object)
        found.append(Vocabulary(of, made, unknown=True))
    return found


def _earlier(path: Path, place: int) -> dict[str, str]:
    """Spell values of a field as an earlier version has exported them.

    Its graph knows them in one spelling alone, maybe another than there is now.

    Returns:
        Each value by its spellings; nothing if all are as they are now.
    """
    texts = _known_values(path, place)
    now = spelled(as_texts(texts)).to_pylist()
    if {*now} <= {*texts}:
        return {}
    return dict(zip(now + texts, texts + texts, strict=True))


def _known_values(path: Path, place: int) -> list[str]:
    """Read the vocabulary of a field from a SavedModel, if it has one."""
    from keras_pep.serving.raw import read_vocabulary

    files = (path / "assets").glob(f"vocabulary-{place}-*.tsv")
    return [value for file in files for value in read_vocabulary(file)]


def _argument(info: TensorInfo) -> str:
    """Make a Python name for an input, where a field's name may be none."""
    operation, _, _ = info.name.rpartition(":")
    return operation.removeprefix(f"{RAW}_")


def _typed(texts: np.ndarray, dtype: str) -> np.ndarray:
    """Convert values to a type: NaN for no number, or an unknown integer."""
    if dtype == "string":
        return texts
    if dtype == "float64":
        return numbers(texts)
    unknown = np.iinfo(np.int64).min
    made = np.full(len(texts), unknown, dtype=np.int64)
    for place, text in enumerate(spelled(as_texts(texts)).to_pylist()):
        # As a vocabulary has it: "7", not "007".
        if _INTEGER.fullmatch(text):
            made[place] = min(int(text), np.iinfo(np.int64).max)
    return made


def _refuse(block: Block, name: str, bad: np.ndarray, wanted: str) -> None:
    if bad.any():
        rows = bad[block.columns[name].codes]
        row = int(rows.argmax())
        found = block.columns[name].values[int(block.columns[name].codes[row])]
        raise DataError(
            f"{block.path}, row {block.first + row + 1}: found "
            f"{found.as_py()[:80]!r} in column {name!r}, expected {wanted}. "
            "Nothing was written."
        )
