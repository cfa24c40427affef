"""`keras-pep replay`."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import click

from keras_pep.lab.cli.common import FOLDER, command, options, refuse
from keras_pep.lab.cli.dataset import (
    NAMES,
    SEED,
    data_options,
    data_settings,
    short_name,
)
from keras_pep.lab.cli.train import OPTIONS

_WHOLE = click.IntRange(min=1)
_NAMES = (
    *("model", "effort", "budget", "max_bytes", "tolerance", "batch_size"),
    *("max_epochs", "decay", "evict_below"),
)


@partial(command, progress=True)
@data_options
@click.option(
    "--time",
    "column",
    metavar="COLUMN",
    help="Column of times, which may have a format, as in "
    "'hour(%y%m%d%H)'. It is a field only if --fields names it.  [default for "
    "movielens: its own]",
)
@click.option(
    "--by",
    type=click.Choice(["hour", "day", "week", "month"]),
    default="day",
    help="Time between two trainings.",
)
@click.option(
    "--first",
    type=_WHOLE,
    default=1,
    help="Periods that the first model is trained on.",
)
@click.option(
    "--periods",
    type=_WHOLE,
    help="Periods to score after those.  [default: all]",
)
@click.option(
    "--window",
    type=_WHOLE,
    help="Periods that a continued model is trained on.  [default: all so far]",
)
@click.option(
    "--seeds",
    type=_WHOLE,
    default=1,
    help="Number of replays, each from another seed.",
)
@options({**{name: OPTIONS[name] for name in _NAMES}, "seed": SEED})
@click.option(
    "--output",
    type=FOLDER,
    help="Folder for replay.json and the runs.  [default: "
    "replays/<dataset>-<time>]",
)
def replay(
    *,
    column: str | None,
    by: str,
    first: int,
    periods: int | None,
    window: int | None,
    seeds: int,
    output: Path | None,
    quiet: bool,  # noqa: ARG001 (for what is logged)
    **settings: Any,
) -> None:
    """Replay a data set in time order, to compare ways of retraining.

    Three models score each period: one that is never retrained, one trained
    anew on all earlier rows, and one that train --continue has made from the
    model of the period before.

    \b
    Examples:
      keras-pep replay --dataset clicks.csv --label clicked --time when --by day
      keras-pep replay --dataset movielens --data-dir ml-1m --by week
    """
    from keras_pep.lab.replay import replay as play
    from keras_pep.lab.replay import replay_table
    from keras_pep.lab.run import Config

    dataset = settings["dataset"]
    known = dataset.startswith("movielens")
    settings = {**data_settings(settings), **settings}
    no_times = f"{dataset} has no times: replay movielens or your own file."
    by_time = "rows are divided by --time: leave it out."
    files = settings["validation_file"] or settings["test_file"]
    label, folder = settings["label"], settings["data_dir"]
    refuse("--dataset", dataset in NAMES and not known, no_times)
    refuse("--label", not (known or label), "name the column of labels.")
    refuse("--data-dir", known and not folder, "name the folder of MovieLens.")
    refuse("--time", not (known or column), "name the column of times.")
    refuse("--split", settings["split"] != "random", by_time)
    refuse("--validation-file or --test-file", files, by_time)
    name = f"{short_name(dataset)}-{time.strftime('%Y%m%d-%H%M%S')}"
    target = output or Path("replays", name)
    found = play(
        *(Config(**settings), column or "timestamp", by, target),
        first=first,
        periods=periods,
        window=window,
        seeds=seeds,
    )
    click.echo(f"\n{replay_table(found)}\n")
    click.echo(f"replay: {target / 'replay.json'}")
