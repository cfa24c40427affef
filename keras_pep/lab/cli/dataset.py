"""The options that say which data: the same for every command."""

import csv
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from keras_pep.files import is_uri
from keras_pep.lab.cli.common import (
    FOLDER,
    FiniteFloat,
    Table,
    Text,
    flag_of,
    options,
    refuse,
    usage_error,
)

NAMES = ("movielens", "movielens-100k", "criteo", "avazu", "synthetic")


def _rows(text: str) -> str:
    """Read a URI, or the path of a file or folder that is there."""
    if is_uri(text):
        return text
    path = Path(text)
    if not path.exists():
        raise ValueError(f"Path {text!r} does not exist.")
    return str(path.resolve())


def _dataset(text: str) -> str:
    """Read a name, or what `_rows` reads."""
    if text in NAMES:
        return text
    try:
        return _rows(text)
    except ValueError as error:
        raise ValueError(
            f"{text!r} is neither one of {', '.join(NAMES)} nor a file or "
            "folder that exists."
        ) from error


def _rows_or_share(text: str) -> float:
    """Read a number of rows, or below 1 a share of them."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if 0 < number < 1:
        return number
    if not (number >= 1 and number.is_integer()):
        raise ValueError(
            f"found {text!r}, expected a number of rows, or a share of them "
            "between 0 and 1."
        )
    return int(number)


# A tab may be written `\t`.
DELIMITER = Text("CHARACTER", lambda text: text.replace("\\t", "\t"))
SEED = click.IntRange(0, 2**31 - 1)
_ROWS = Text("PATH|URI", _rows)
_OPTIONS: Table = {
    "dataset": Text(f"[{'|'.join(NAMES)}|PATH|URI]", _dataset),
    "data_dir": FOLDER,
    "features": click.Choice(["paper", "full"]),
    "label": Text("COLUMN"),
    "positive": Text("RULE"),
    "weight": Text("COLUMN"),
    "fields": Text("A,B,C"),
    "delimiter": DELIMITER,
    "min_count": Text("COUNT|SHARE", _rows_or_share),
    "max_values": click.IntRange(min=1),
    "vocabularies": FOLDER,
    "split": Text("random|time[:COLUMN]|column:NAME|user"),
    "validation_file": _ROWS,
    "test_file": _ROWS,
    "max_bad_rows": FiniteFloat(0, 1),
    "cache_dir": FOLDER,
}
data_options = options(_OPTIONS)
# Of files of one's own alone.
_OF_OWN = (
    *("label", "positive", "weight", "fields", "delimiter"),
    *("validation_file", "test_file"),
)


# A time with its format, if it is not quoted.
_FORMAT = re.compile(r'(?:(?<=,)|^)\s*([^,"]+:(?:time|hour|weekday)\([^")]*\))')


def data_settings(options: dict[str, Any]) -> dict[str, Any]:
    """Take the options out of a command's, as `data.load` has them.

    Raises:
        click.BadParameter: If one does not go with the dataset.
    """
    settings = {name: options.pop(name) for name in _OPTIONS}
    labels = settings["label"]
    settings["label"] = labels[0] if labels else None
    dataset = settings["dataset"]
    own = dataset not in NAMES
    counts_all = not own and dataset not in ("criteo", "avazu")
    what = "a dataset of your own" if own else dataset
    none = f"{what} has no such option: leave it out."
    several = (
        f"found {len(labels)}, {', '.join(labels)}, expected one: a model "
        "predicts one label. Train one for each."
    )
    refuse("--label", len(labels) > 1, several)
    given = [name for name in settings if settings[name] is not None]
    for names, unused in (
        (("data_dir", "features"), own or dataset == "synthetic"),
        (_OF_OWN, not own),
        (("max_values", "vocabularies"), counts_all),
    ):
        for name in names:
            refuse(flag_of(name), unused and name in given, none)
    from keras_pep.data import DataError
    from keras_pep.data.load import check_split

    if settings["positive"] is not None:
        from keras_pep.data.labels import parsed

        with usage_error("--positive", DataError):
            parsed(settings["positive"])
    with usage_error("--split", DataError):
        files = settings["validation_file"] or settings["test_file"]
        check_split(dataset, settings["split"], bool(files))
    # As a line of CSV, so that a name may hold a comma; a format may anyway.
    line = _FORMAT.sub(r'"\1"', settings["fields"] or "")
    fields = next(csv.reader([line], skipinitialspace=True))
    settings["fields"] = tuple(fields)
    for name in ("data_dir", "cache_dir", "vocabularies"):
        if settings[name] is not None:
            settings[name] = str(settings[name].resolve())
    return settings


def short_name(dataset: str) -> str:
    """Name a run of a dataset, by default."""
    path = urlsplit(dataset).path if is_uri(dataset) else dataset
    return dataset if dataset in NAMES else Path(path).name.split(".")[0]
