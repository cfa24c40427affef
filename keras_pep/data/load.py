"""One door to all datasets."""

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_pep.data import movielens, synthetic
from keras_pep.data.dataset import DataError, Dataset
from keras_pep.files import is_uri

if TYPE_CHECKING:
    from keras_pep.data.growth import Earlier
    from keras_pep.data.prepare import Here
    from keras_pep.data.rows import Files
    from keras_pep.data.source import Source

logger = logging.getLogger(__name__)

NAMES = ("movielens", "movielens-100k", "criteo", "avazu", "synthetic")
_ALL_VALUES = ("movielens", "movielens-100k", "synthetic")

# Ids of all splits up to which a prepared dataset is read into memory.
IN_MEMORY = 2 << 30


def load(
    name: str | Path,
    data_dir: str | Path | None = None,
    *,
    features: str | None = None,
    label: str | None = None,
    positive: str | None = None,
    weight: str | None = None,
    fields: Sequence[str] = (),
    delimiter: str | None = None,
    min_count: float = 10,
    max_values: int | None = None,
    vocabularies: str | Path | None = None,
    split: str = "random",
    validation_file: str | Path | None = None,
    test_file: str | Path | None = None,
    seed: int = 0,
    max_bad_rows: float = 0.001,
    in_memory: int = IN_MEMORY,
    cache_dir: str | Path | None = None,
    earlier: "Earlier | None" = None,
    beam: Sequence[str] | None = None,
) -> Dataset:
    """Loads a dataset and splits it, by default 80/10/10 at random.

    The `notes` of the dataset say which columns were taken in a way that
    somebody might not expect.

    Criteo, Avazu and files of one's own are prepared once, and found again
    where the same is asked for of the same files. What takes long is logged.

    Args:
        name: `"movielens"` (MovieLens-1M), `"movielens-100k"`, `"criteo"`,
            `"avazu"`, `"synthetic"`, or the path of a file (`.csv`, `.tsv`,
            `.parquet`) or of a folder of such files, which may be that of an
            object store, `"s3://bucket/path"`: its files are copied to
            `cache_dir` before.
        data_dir: Folder with the dataset's files as they are downloaded.
            MovieLens, if there is none, comes by TensorFlow Datasets.
        features: Feature set, `"paper"` or `"full"`; by default the larger one
            that the dataset has.
        label: Of files of one's own, the column of labels, 0 or 1.
        positive: Of these, which labels are positive, if they are others:
            `">=4"` (`>`, `<=`, `<`), `"==click"` or `"in yes,true"`.
        weight: Of these, the column of how much each row counts in losses and
            figures, 0 or more: the `sample_weight` of Keras.
        fields: Of these, the columns to learn from; see `tabular.source`.
        delimiter: Of these, what divides columns.
        min_count: Values in fewer training rows share one id of their field;
            below 1 it is a share of these rows. Not of MovieLens, where every
            value has an id.
        max_values: How many values of a field have an id of their own, at most:
            the most frequent in training. Not of MovieLens.
        vocabularies: Folder of values that were counted elsewhere: a file for
            each field, `user.txt`, a value in each line by falling count. Other
            fields are counted. Not of MovieLens.
        split: `"random"`; of files of one's own `"time:COLUMN"`, by numbers or
            times, which may have a format, `"time:when(%m/%d/%Y %H:%M)"`: the
            first 80 % of rows train, the last 10 % test, and rows of one time
            (to the second, unless it is a number) stay together; or
            `"column:NAME"`, where a column says train, validation or test. Of
            Criteo, Avazu and MovieLens `"time"`, of MovieLens `"user"` too: the
            last rating of each user is for test, the one before for validation.
        validation_file: Of files of one's own, the file or folder of the rows
            for validation; then all of `name` is for training. Without it, if
            there is a `test_file`, a tenth of `name`, drawn by the seed.
        test_file: Likewise of the rows for test.
        seed: Of the random split, and of all that `"synthetic"` makes up.
        max_bad_rows: Share of malformed rows that is tolerated.
        in_memory: Bytes of ids up to which a prepared dataset is held in
            memory; a larger one stays on disk.
        cache_dir: Where prepared datasets are kept; by default
            `$KERAS_PEP_CACHE`, or else `~/.cache/keras-pep`.
        earlier: Of Criteo, Avazu and files of one's own, what they go on from:
            known values keep their ids, and `fields` are those of before.
        beam: Of these, options of an Apache Beam pipeline that prepares them,
            `["--runner=FlinkRunner", ...]`, a file at a time; without
            `--runner` in this process. The result is the same.

    Raises:
        DataError: If there is no such dataset, or its files are missing or
            not as they should be.

    Example:

    ```python
    rows = ["clicked,user,price"]
    rows += [f"{n % 2},{n % 20},{n / 8}" for n in range(500)]
    Path("clicks.csv").write_text("\\n".join(rows))
    data = keras_pep.data.load(
        "clicks.csv", label="clicked", cache_dir="prepared"
    )
    print(data.fields, data.field_sizes)
    ```
    """
    check_split(str(name), split, bool(validation_file or test_file))
    cache = _cache(cache_dir)
    uris = (name, validation_file, test_file)
    name, validation_file, test_file = (_local(each, cache) for each in uris)
    if not (min_count >= 1 and min_count == int(min_count)) and not (
        0 < min_count < 1
    ):
        raise DataError(
            f"found min_count={min_count}, expected a number of rows, or a "
            "share of them between 0 and 1."
        )
    if name in _ALL_VALUES and (max_values or vocabularies):
        raise DataError(
            f"every value of {name} has an id: max_values and vocabularies are "
            "for other datasets."
        )
    if beam is not None and name in _ALL_VALUES:
        raise DataError(
            f"{name} is made without Beam. Expected: another dataset."
        )
    if earlier and name in _ALL_VALUES:
        raise DataError(
            f"{name} cannot go on from earlier data. Expected: files."
        )
    if name in ("movielens", "movielens-100k"):
        dataset = movielens.load(
            str(name), data_dir, features, seed, max_bad_rows, split
        )
    elif name == "synthetic":
        dataset = synthetic.generate(seed)
    else:
        from keras_pep.data import kaggle, tabular
        from keras_pep.data.vocabularies import files_of_fields

        if name in ("criteo", "avazu"):
            describe = kaggle.criteo if name == "criteo" else kaggle.avazu
            source = describe(data_dir, features, min_count, split)
        elif Path(name).exists() or Path(name).parent != Path():
            if earlier:  # so that no kind is guessed
                known = (each.field for each in earlier.vocabularies.values())
                columns = dict.fromkeys(f"{each.column}:text" for each in known)
                fields = [*columns]
            source = tabular.source(
                *(name, label, fields, delimiter, min_count, split),
                *(validation_file, test_file, positive, weight),
            )
        else:
            raise DataError(
                f"No dataset {str(name)!r}; there are {', '.join(NAMES)}, and "
                "files and folders."
            )
        if vocabularies is not None and not earlier:
            given = files_of_fields(Path(vocabularies), source.fields)
            source = replace(source, vocabularies=given)
        source = replace(source, max_values=max_values)
        source = earlier.applied(source) if earlier else source
        where = None
        if beam is not None:
            copies = zip(uris, (name, validation_file, test_file), strict=True)
            where = _cluster(beam, cache, source, dict(copies))
        dataset = _prepared(source, seed, max_bad_rows, in_memory, cache, where)
    for split_name, rows in dataset.splits.items():
        labels, of = rows.labels, ""
        if rows.weights is not None:
            labels, of = labels[rows.weights > 0], "of a weight above 0 "
        if not 0 < labels.sum() < len(labels):
            raise DataError(
                f"{dataset.name}: found {len(labels):,} rows {of}for "
                f"{split_name}, {int(labels.sum()):,} of them positive, "
                "expected some of either kind: there is nothing to learn or to "
                "measure. Take more rows, or another split or seed."
            )
    return dataset


def check_split(name: str, split: str, files: bool = False) -> None:
    """Refuse a split that a dataset cannot have.

    Args:
        name: As `load` takes it.
        split: As `load` takes it.
        files: Whether rows for validation or test are in files of their own.

    Raises:
        DataError: If it has no such split.
    """
    if files and (name in NAMES or split != "random"):
        raise DataError(
            "found files for validation or test, and "
            + (f"the dataset {name!r}" if name in NAMES else f"split {split!r}")
            + ", expected files of your own that no other rule splits."
        )
    known, what = ["random"], name
    if name in ("criteo", "avazu"):
        known.append("time")
    elif name in ("movielens", "movielens-100k"):
        known += ["time", "user"]
    elif name not in NAMES:
        known += ["time:COLUMN", "column:NAME"]
        what = "files of your own"
        by, _, column = split.partition(":")
        if by in ("time", "column") and column:
            return
    if split not in known:
        raise DataError(
            f"found the split {split!r}, expected {' or '.join(known)} for "
            f"{what}."
        )


def usual_form(name: str, delimiter: str | None) -> "Files | None":
    """Describe how files like those of a dataset are written.

    Args:
        name: As `load` takes it.
        delimiter: As `load` takes it.

    Returns:
        `Files` without paths; None if the endings of names say it all.
    """
    from keras_pep.data import kaggle
    from keras_pep.data.rows import Files

    if name == "criteo":
        return kaggle.CRITEO
    return None if delimiter is None else Files((), delimiter=delimiter)


def _cache(cache_dir: str | Path | None) -> Path:
    home = Path.home() / ".cache" / "keras-pep"
    return Path(cache_dir or os.environ.get("KERAS_PEP_CACHE") or home)


def _local(name: Any, cache: Path) -> Any:
    """Copy files that are in an object store."""
    if not (isinstance(name, str) and is_uri(name)):
        return name
    from keras_pep.data.remote import copied

    return copied(name, cache / "copies")


def _cluster(
    options: Sequence[str],
    cache: Path,
    source: "Source",
    copies: Mapping[Any, Any],
) -> "Here":
    """Prepare where a runner of Beam has machines."""
    try:
        from keras_pep.data.cluster import Cluster
    except ModuleNotFoundError as error:
        raise DataError(
            f"Apache Beam is missing: {error}. pip install 'keras-pep[beam]'"
        ) from error
    from keras_pep.data.remote import uris_below

    cache.mkdir(parents=True, exist_ok=True)
    uris: dict[Path, str] = {}
    for uri, copy in copies.items():
        if uri != copy:
            uris |= uris_below(uri, copy, source.files.paths)
    return Cluster(options=options, folder=cache, uris=uris)


def _prepared(
    source: "Source",
    seed: int,
    max_bad_rows: float,
    in_memory: int,
    cache: Path,
    where: "Here | None" = None,
) -> Dataset:
    from keras_pep.data.prepare import prepare
    from keras_pep.data.rows import states
    from keras_pep.data.stored import FORMAT, open_folder

    earlier = source.earlier
    settings = asdict(replace(source, earlier=None))
    del settings["files"]["paths"], settings["earlier"]
    settings |= {"earlier": earlier.digest()} if earlier else {}
    given = settings.pop("vocabularies")
    inputs = [*source.files.states(), *states(path for _, path in given)]
    key = repr((FORMAT, inputs, settings, seed, max_bad_rows))
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    folder = cache / f"{source.name}-{digest}"
    if not folder.is_dir():
        prepare(source, folder, seed, max_bad_rows, where)
    logger.info(f"{source.name}: prepared in {folder}")
    return open_folder(folder, in_memory)
