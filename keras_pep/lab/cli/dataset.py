"""The options that say which data: the same for every command."""

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from keras_pep.lab.cli.common import FiniteFloat

NAMES = ("movielens", "movielens-100k", "criteo", "avazu", "synthetic")


class _DatasetType(click.ParamType[str]):
    """A name, or the path of a file or folder that is there."""

    name = "dataset"

    def get_metavar(
        self, param: click.Parameter, ctx: click.Context
    ) -> str | None:
        """What the help calls it."""
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


def delimiter_option(help_text: str) -> Callable[..., Any]:
    r"""The option `--delimiter`, where a tab may be written `\t`."""
    return click.option(
        "--delimiter",
        metavar="CHARACTER",
        callback=lambda _, __, given: given and given.replace("\\t", "\t"),
        help=help_text,
    )


_OPTIONS = (
    click.option(
        "--dataset",
        type=_DatasetType(),
        default="synthetic",
        show_default=True,
        help="A dataset by name, or the path of your own: a .csv, .tsv or "
        ".parquet file, or a folder of such files.",
    ),
    click.option(
        "--data-dir",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder with the files of a dataset by name, as they are "
        "downloaded. Without it MovieLens comes by TensorFlow Datasets.",
    ),
    click.option(
        "--features",
        type=click.Choice(["paper", "full"]),
        help="movielens: the paper's seven fields, or user and movie ids too; "
        "avazu: the hour as it is, or hour of day and weekday.  "
        "[default: full]",
    ),
    click.option(
        "--label",
        metavar="COLUMN",
        help="Own files: the column of labels, 0 or 1.",
    ),
    click.option(
        "--fields",
        metavar="A,B,C",
        help="Own files: the columns to learn from, if not all. A kind after "
        "a colon replaces the guessed one, as in price:number: category, text, "
        "number, log, list, time, hour or weekday; a time may have a format, "
        "as in 'when:time(%m/%d/%Y %H:%M)'.",
    ),
    delimiter_option(
        "Own files: what divides columns.  [default: a comma; .tsv, .txt: a "
        "tab]"
    ),
    click.option(
        "--min-count",
        type=click.IntRange(min=1),
        default=10,
        show_default=True,
        help="Values in fewer training rows share one id of their field. Not "
        "of movielens and synthetic.",
    ),
    click.option(
        "--max-bad-rows",
        type=FiniteFloat(0, 1),
        default=0.001,
        show_default=True,
        help="Share of malformed rows that is left out and counted.",
    ),
    click.option(
        "--cache-dir",
        type=click.Path(path_type=Path, file_okay=False),
        help="Where prepared data are kept.  [default: $KERAS_PEP_CACHE, or "
        "~/.cache/keras-pep]",
    ),
)


_SETTINGS = (
    "dataset",
    "data_dir",
    "features",
    "label",
    "fields",
    "delimiter",
    "min_count",
    "max_bad_rows",
    "cache_dir",
)


# A time with its format, if it is not quoted.
_FORMAT = re.compile(r'(?:(?<=,)|^)\s*([^,"]+:(?:time|hour|weekday)\([^")]*\))')


def data_options(function: Callable[..., None]) -> Callable[..., None]:
    """Adds the options to a command."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def data_settings(options: dict[str, Any]) -> dict[str, Any]:
    """Takes the options out of a command's, as `data.load` has them.

    Raises:
        click.BadParameter: If one does not go with the dataset.
    """
    settings = {name: options.pop(name) for name in _SETTINGS}
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
            what = "files of your own" if own else dataset
            raise click.BadParameter(
                f"not an option of {what}.", param_hint=flag
            )
    # As a line of CSV, so that a name may hold a comma; a format may anyway.
    line = _FORMAT.sub(r'"\1"', settings["fields"] or "")
    fields = next(csv.reader([line], skipinitialspace=True))
    settings["fields"] = tuple(fields)
    for name in ("data_dir", "cache_dir"):
        if settings[name] is not None:
            settings[name] = str(settings[name].resolve())
    return settings


def short_name(dataset: str) -> str:
    """What a run of a dataset is called by default."""
    return dataset if dataset in NAMES else Path(dataset).name.split(".")[0]
