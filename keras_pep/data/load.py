"""One door to all datasets."""

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from keras_pep.data import movielens, synthetic
from keras_pep.data.dataset import DataError, Dataset

if TYPE_CHECKING:
    from keras_pep.data.growth import Earlier
    from keras_pep.data.prepare import Source
    from keras_pep.data.rows import Files

logger = logging.getLogger(__name__)

NAMES = ("movielens", "movielens-100k", "criteo", "avazu", "synthetic")

# Ids of all splits up to which a prepared dataset is read into memory.
IN_MEMORY = 2 << 30


def load(
    name: str | Path,
    data_dir: str | Path | None = None,
    *,
    features: str | None = None,
    label: str | None = None,
    fields: Sequence[str] = (),
    delimiter: str | None = None,
    min_count: int = 10,
    split: str = "random",
    seed: int = 0,
    max_bad_rows: float = 0.001,
    in_memory: int = IN_MEMORY,
    cache_dir: str | Path | None = None,
    earlier: "Earlier | None" = None,
) -> Dataset:
    """Loads a dataset and splits it, by default 80/10/10 at random.

    The `notes` of the dataset say which columns were taken in a way that
    somebody might not expect.

    Criteo, Avazu and files of one's own are prepared once, and found again
    where the same is asked for of the same files. What takes long is logged.

    Args:
        name: `"movielens"` (MovieLens-1M), `"movielens-100k"`, `"criteo"`,
            `"avazu"`, `"synthetic"`, or the path of a file (`.csv`, `.tsv`,
            `.parquet`) or of a folder of such files.
        data_dir: Folder with the dataset's files as they are downloaded.
            MovieLens, if there is none, comes by TensorFlow Datasets.
        features: Feature set, `"paper"` or `"full"`; by default the larger one
            that the dataset has.
        label: Of files of one's own, the column of labels.
        fields: Of these, the columns to learn from; see `tabular.source`.
        delimiter: Of these, what divides columns.
        min_count: Values in fewer training rows share one id of their field.
            Not of MovieLens, where every value has an id.
        split: `"random"`; of files of one's own `"time:COLUMN"`, by numbers or
            times, which may have a format, `"time:when(%m/%d/%Y %H:%M)"`: the
            first 80 % of rows train, the last 10 % test, and rows of one time
            (to the second, unless it is a number) stay together; or
            `"column:NAME"`, where a column says train, validation or test. Of
            MovieLens `"time"`.
        seed: Of the random split, and of all that `"synthetic"` makes up.
        max_bad_rows: Share of malformed rows that is tolerated.
        in_memory: Bytes of ids up to which a prepared dataset is held in
            memory; a larger one stays on disk.
        cache_dir: Where prepared datasets are kept; by default
            `$KERAS_PEP_CACHE`, or else `~/.cache/keras-pep`.

        earlier: Of Criteo, Avazu and files of one's own, what they go on from:
            known values keep their ids, and `fields` are those of before.

    Raises:
        DataError: If there is no such dataset, or its files are missing or
            not as they should be.
    """
    check_split(str(name), split)
    if earlier and name in ("movielens", "movielens-100k", "synthetic"):
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

        if name in ("criteo", "avazu"):
            describe = kaggle.criteo if name == "criteo" else kaggle.avazu
            source = describe(data_dir, features, min_count)
        elif Path(name).exists() or Path(name).parent != Path():
            if earlier:  # so that no kind is guessed
                known = (each.field for each in earlier.vocabularies.values())
                columns = dict.fromkeys(f"{each.column}:text" for each in known)
                fields = [*columns]
            source = tabular.source(
                name, label, fields, delimiter, min_count, split
            )
        else:
            raise DataError(
                f"No dataset {str(name)!r}; there are {', '.join(NAMES)}, and "
                "files and folders."
            )
        source = earlier.applied(source) if earlier else source
        dataset = _prepared(source, seed, max_bad_rows, in_memory, cache_dir)
    for split_name, rows in dataset.splits.items():
        if not 0 < rows.labels.sum() < len(rows):
            raise DataError(
                f"{dataset.name}: found {len(rows):,} rows for {split_name}, "
                f"{int(rows.labels.sum()):,} of them positive, expected some "
                "of either kind: there is nothing to learn or to measure."
            )
    return dataset


def check_split(name: str, split: str) -> None:
    """Refuse a split that a dataset cannot have.

    Args:
        name: As `load` takes it.
        split: As `load` takes it.

    Raises:
        DataError: If it has no such split.
    """
    known, what = ["random"], name
    if name in ("movielens", "movielens-100k"):
        known.append("time")
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


def _prepared(
    source: "Source",
    seed: int,
    max_bad_rows: float,
    in_memory: int,
    cache_dir: str | Path | None,
) -> Dataset:
    from keras_pep.data.prepare import prepare
    from keras_pep.data.stored import FORMAT, open_folder

    if cache_dir is None:
        home = Path.home() / ".cache" / "keras-pep"
        cache_dir = os.environ.get("KERAS_PEP_CACHE", home)
    earlier = source.earlier
    settings = asdict(replace(source, earlier=None))
    del settings["files"]["paths"], settings["earlier"]
    settings |= {"earlier": earlier.digest()} if earlier else {}
    inputs = source.files.states()
    key = repr((FORMAT, inputs, settings, seed, max_bad_rows))
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    folder = Path(cache_dir) / f"{source.name}-{digest}"
    if not folder.is_dir():
        prepare(source, folder, seed, max_bad_rows)
    logger.info(f"{source.name}: prepared in {folder}")
    return open_folder(folder, in_memory)
