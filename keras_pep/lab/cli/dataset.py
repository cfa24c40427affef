"""The options that say which data: the same for every command."""

import csv
import re
from pathlib import Path
from typing import Any

import click

from keras_pep.lab.cli.common import FiniteFloat, Table, Text, options

NAMES = ("movielens", "movielens-100k", "criteo", "avazu", "synthetic")


class _DatasetType(click.ParamType[str]):
    """A name, or the path of a file or folder that is there."""

    name = "dataset"

    def get_metavar(
        self, param: click.Parameter, ctx: click.Context
    ) -> str | None:
        """The name that the help has for it."""
        return f"[{'|'.join(NAMES)}|PATH|URI]"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str:
        """The name or URI, or the whole path."""
        if value in NAMES or "://" in value:
            return str(value)
        path = Path(value)
        if not path.exists():
            self.fail(
                f"{value!r} is neither one of {', '.join(NAMES)} nor a file "
                "or folder that exists.",
                param,
                ctx,
            )
        return str(path.resolve())


class Delimiter(Text):
    r"""A character that divides columns; a tab may be written `\t`."""

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str:
        """The character."""
        return str(super().convert(value, param, ctx)).replace("\\t", "\t")


class _Rows(click.Path):
    """A file or folder of rows, by its URI or whole path."""

    def __init__(self) -> None:
        super().__init__(exists=True, resolve_path=True, path_type=str)
        self.name = "path|uri"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        """The URI, or the whole path."""
        return value if "://" in value else super().convert(value, param, ctx)


class _RowsOrShare(click.ParamType[float]):
    """A number of rows, or below 1 a share of them."""

    name = "count|share"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """The number, whole if it is of rows."""
        try:
            number = float(value)
        except ValueError:
            number = 0.0
        if 0 < number < 1:
            return number
        if not (number >= 1 and number.is_integer()):
            self.fail(
                f"found {value!r}, expected a number of rows, or a share of "
                "them between 0 and 1.",
                param,
                ctx,
            )
        return int(number)


SEED = click.IntRange(0, 2**31 - 1)
_FOLDER = click.Path(path_type=Path, file_okay=False)
_OPTIONS: Table = {
    "dataset": _DatasetType(),
    "data_dir": _FOLDER,
    "features": click.Choice(["paper", "full"]),
    "label": Text("COLUMN"),
    "positive": Text("RULE"),
    "weight": Text("COLUMN"),
    "fields": Text("A,B,C"),
    "delimiter": Delimiter("CHARACTER"),
    "min_count": _RowsOrShare(),
    "max_values": click.IntRange(min=1),
    "vocabularies": _FOLDER,
    "split": Text("random|time[:COLUMN]|column:NAME|user"),
    "validation_file": _Rows(),
    "test_file": _Rows(),
    "max_bad_rows": FiniteFloat(0, 1),
    "cache_dir": _FOLDER,
}
data_options = options(_OPTIONS)


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
    if len(labels) > 1:
        raise click.BadParameter(
            f"found {len(labels)}, {', '.join(labels)}, expected one: a model "
            "predicts one label. Train one for each.",
            param_hint="--label",
        )
    dataset = settings["dataset"]
    own = dataset not in NAMES
    counts_all = not own and dataset not in ("criteo", "avazu")
    for flag, unused in (
        ("--data-dir", own or dataset == "synthetic"),
        ("--features", own or dataset == "synthetic"),
        ("--label", not own),
        ("--positive", not own),
        ("--weight", not own),
        ("--fields", not own),
        ("--delimiter", not own),
        ("--validation-file", not own),
        ("--test-file", not own),
        ("--max-values", counts_all),
        ("--vocabularies", counts_all),
    ):
        if unused and settings[flag[2:].replace("-", "_")] is not None:
            what = "a dataset of your own" if own else dataset
            raise click.BadParameter(
                f"{what} has no such option: leave it out.", param_hint=flag
            )
    from keras_pep.data import DataError
    from keras_pep.data.load import check_split

    if settings["positive"] is not None:
        from keras_pep.data.labels import parsed

        try:
            parsed(settings["positive"])
        except DataError as error:
            raise click.BadParameter(
                str(error), param_hint="--positive"
            ) from error
    try:
        files = settings["validation_file"] or settings["test_file"]
        check_split(dataset, settings["split"], bool(files))
    except DataError as error:
        raise click.BadParameter(str(error), param_hint="--split") from error
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
    return dataset if dataset in NAMES else Path(dataset).name.split(".")[0]
