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
        return f"[{'|'.join(NAMES)}|PATH]"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str:
        """The name, or the whole path."""
        if value in NAMES:
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


SEED = click.IntRange(0, 2**31 - 1)
_FOLDER = click.Path(path_type=Path, file_okay=False)
_OPTIONS: Table = {
    "dataset": _DatasetType(),
    "data_dir": _FOLDER,
    "features": click.Choice(["paper", "full"]),
    "label": Text("COLUMN"),
    "fields": Text("A,B,C"),
    "delimiter": Delimiter("CHARACTER"),
    "min_count": click.IntRange(min=1),
    "split": Text("random|time:COLUMN|column:NAME"),
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
    dataset = settings["dataset"]
    own = dataset not in NAMES
    for flag, unused in (
        ("--data-dir", own or dataset == "synthetic"),
        ("--features", own or dataset == "synthetic"),
        ("--label", not own),
        ("--fields", not own),
        ("--delimiter", not own),
    ):
        if unused and settings[flag[2:].replace("-", "_")] is not None:
            what = "a dataset of your own" if own else dataset
            raise click.BadParameter(
                f"{what} has no such option: leave it out.", param_hint=flag
            )
    from keras_pep.data import DataError
    from keras_pep.data.load import check_split

    try:
        check_split(dataset, settings["split"])
    except DataError as error:
        raise click.BadParameter(str(error), param_hint="--split") from error
    # As a line of CSV, so that a name may hold a comma; a format may anyway.
    line = _FORMAT.sub(r'"\1"', settings["fields"] or "")
    fields = next(csv.reader([line], skipinitialspace=True))
    settings["fields"] = tuple(fields)
    for name in ("data_dir", "cache_dir"):
        if settings[name] is not None:
            settings[name] = str(settings[name].resolve())
    return settings


def short_name(dataset: str) -> str:
    """Name a run of a dataset, by default."""
    return dataset if dataset in NAMES else Path(dataset).name.split(".")[0]
