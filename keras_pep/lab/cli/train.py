"""`keras-pep train`."""

import csv
import io
import os
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from keras_pep.lab.cli.common import (
    FOLDER,
    HELP,
    Choice,
    FiniteFloat,
    Table,
    Text,
    command,
    command_line,
    explained,
    flag_of,
    load_silently,
    options,
    refuse,
    tell_failure,
    usage_error,
)
from keras_pep.lab.cli.dataset import (
    NAMES,
    SEED,
    data_options,
    data_settings,
    short_name,
)
from keras_pep.lab.presets import preset
from keras_pep.lab.settings import RIVALS, SEARCHED, Settings

if TYPE_CHECKING:
    from keras_pep.lab.run import Config, RunDirectory


def _read_config(
    context: click.Context, option: click.Parameter, path: Path | None
) -> Path | None:
    """Make the keys of a file the defaults of the options."""
    if path is None:
        return None
    try:
        content = _settings_in(path)
    except (ValueError, OSError) as error:
        problem: Any = error
        if isinstance(error, OSError):
            problem = f"{error.strerror}."
        raise click.BadParameter(f"{path}: {problem}", param=option) from error
    options = {
        name.lstrip("-").replace("-", "_"): parameter
        for parameter in context.command.params
        for name in parameter.opts
        if parameter.name != "config" and name.startswith("--")
    }
    defaults: dict[str, Any] = {}
    for key, value in content.items():
        known = options.get(key.replace("-", "_"))
        if known is None or known.name is None:
            raise click.BadParameter(
                f"{path}: unknown key {key!r}; known are "
                f"{', '.join(sorted(options))}.",
                param=option,
            )
        one_of_many = known.multiple and not isinstance(value, list)
        defaults[known.name] = [value] if one_of_many else value
    context.default_map = {**(context.default_map or {}), **defaults}
    return path


def _settings_in(path: Path) -> dict[str, Any]:
    """Read settings from a TOML file, or the `config.json` of a run.

    Raises:
        ValueError: If it is not one, or damaged.
    """
    text = path.read_text("utf-8")
    if path.suffix != ".json":
        return tomllib.loads(text)
    from keras_pep.lab.run import parse_checked_json

    try:
        content = parse_checked_json(text)
    except ValueError as error:
        raise ValueError(f"not the config.json of a run: {error}") from error
    settings = {
        name: content[name]
        for name in Settings().to_dict()
        if content.get(name) is not None
    }
    if fields := settings.pop("fields", ()):
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(fields)
        settings["fields"] = line.getvalue()
    return settings


def _bytes(text: str) -> str:
    """Check a number of bytes, such as `100kB`."""
    load_silently()  # as the import would load TensorFlow
    from keras_pep.pruning.sizes import number_of_bytes

    number_of_bytes(text)
    return text


# Options that only a single search has.
_OF_ONE_SEARCH = (
    *("granularity", "linear", "search_epochs", "search_dim", "search_rate"),
    *("threshold_init", "start", "retrain_epochs", "retrain_rate"),
    *("distillation", "baseline", "patience"),
)
_WHOLE = click.IntRange(min=1)
_RATE = FiniteFloat(min=0, min_open=True)
OPTIONS: Table = {
    "model": click.Choice(
        ["lr", "fm", "fvfm", "gem", "deepfm", "dcn", "autoint"]
    ),
    "deep": click.BOOL,
    "linear": click.Choice(["dense", "pep"]),
    "embedding_dim": _WHOLE,
    "granularity": Choice(
        [
            "global",
            "dimension",
            "feature",
            "feature-dimension",
            "field",
            "field-dimension",
        ]
    ),
    "search": click.Choice(["auto", "budget", "paper"]),
    "effort": click.Choice(["quick", "normal", "thorough"]),
    "search_epochs": _WHOLE,
    "search_dim": _WHOLE,
    "search_rate": _RATE,
    "threshold_init": FiniteFloat(max=0),
    "budget": _WHOLE,
    "sparsity": FiniteFloat(0, 1, min_open=True, max_open=True),
    "max_bytes": Text("BYTES", _bytes),
    "tolerance": FiniteFloat(min=0),
    "start": click.Choice(["rewind", "reinit", "finetune"]),
    "retrain_epochs": _WHOLE,
    "retrain_rate": _RATE,
    "distillation": FiniteFloat(0, 1),
    "compare": click.Choice(RIVALS),
    "optimizer": Choice(["auto", "adam", "lazy-adam", "rowwise-adagrad"]),
    "learning_rate": _RATE,
    "batch_size": _WHOLE,
    "l2": FiniteFloat(min=0),
    "max_epochs": _WHOLE,
    "patience": _WHOLE,
    "seed": SEED,
    "baseline": click.BOOL,
    "export": click.BOOL,
    "decay": FiniteFloat(0, 1),
    "evict_below": FiniteFloat(min=0),
    "distribute": Choice(["none", "mirrored", "multi-worker"]),
}


@partial(command, progress=True)
@data_options
@options(OPTIONS)
@click.option(
    "--continue",
    "continued",
    type=FOLDER,
    help=HELP["continued"],
)
@click.option(
    "--run-dir",
    type=FOLDER,
    help="Directory for the results; several workers need one that all of "
    "them can read.  [default: runs/<dataset>-<model>-<time>]",
)
@click.option(
    "--force", is_flag=True, help="Overwrite files in the run directory."
)
@click.option(
    "--resume",
    type=FOLDER,
    help="Run directory to continue after an interruption, with the run's own "
    "settings. If its data have moved, add --dataset and the other options "
    "that say where data are. Start as many workers as before.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    is_eager=True,
    expose_value=False,
    callback=_read_config,
    help="TOML file with options as keys, or config.json of a run to repeat. "
    "Options on the command line win.",
)
def train(
    *,
    run_dir: Path | None,
    continued: Path | None,
    resume: Path | None,
    force: bool,
    quiet: bool,  # noqa: ARG001 (for what is logged)
    **settings: Any,
) -> None:
    """Find the smallest model that is as good as the best dense one.

    Tunes the dense model, tries several methods for each size, and says which
    model to take. Writes a run directory with the models, the tickets,
    metrics.json, history.csv and report.html.

    \b
    Examples:
      keras-pep train --dataset synthetic
      keras-pep train --dataset movielens --data-dir ml-1m --max-bytes 60kB
      keras-pep train --dataset clicks.csv --label clicked
      keras-pep train --dataset movielens --data-dir ml-1m --features paper
        --search paper --budget 50000 --budget 30000
      keras-pep train --continue runs/clicks --dataset today.csv
      keras-pep train --resume runs/movielens-fm-20260101-120000
    """
    from keras_pep.lab.run import Config, RunDirectory

    if resume is not None:
        moved = _moved_data(settings)
        directory = RunDirectory(resume)
        _check_workers("--resume", directory.read_config()[0])
        _finish(directory, None, moved=moved)
        return
    given = _given()
    settings = {**data_settings(settings), **settings}
    if continued is not None:
        config = _continued(continued, {n: settings.get(n) for n in given})
    else:
        _check(settings, run_dir)
        _settle(settings)
        config = Config(**settings)
        _check_workers("--distribute", config)
    name = f"{short_name(config.dataset)}-{config.model}"
    directory = RunDirectory(
        run_dir or Path("runs", f"{name}-{time.strftime('%Y%m%d-%H%M%S')}")
    )
    _finish(directory, config, force=force)


def _settle(settings: dict[str, Any]) -> None:
    """Settle what follows from options that were given.

    Raises:
        click.BadParameter: If they ask for two kinds of search.
    """
    context = click.get_current_context()

    def given(name: str) -> bool:
        source = context.get_parameter_source(name)
        # The config.json of a run has the defaults, too.
        return source is not ParameterSource.DEFAULT and (
            settings[name] != getattr(Settings, name)
        )

    single = [name for name in _OF_ONE_SEARCH if given(name)]
    itself = (
        "found --search auto, which chooses it itself: add --search budget, or "
        "leave it out."
    )
    for name in single:
        refuse(flag_of(name), settings["search"] == "auto", itself)
    settings["search"] = settings["search"] or ("budget" if single else "auto")
    if settings["search"] == "auto":
        return
    either = (
        f"found --search {settings['search']}, expected auto: leave one of "
        "them out."
    )
    for name in ("max_bytes", "tolerance", "effort"):
        refuse(flag_of(name), given(name), either)
    for name in ("embedding_dim", "l2"):
        if settings[name] is None:
            settings[name] = preset(name, settings["model"])


def _check(settings: Mapping[str, Any], run_dir: Path | None) -> None:
    """Refuse settings that do not go together.

    Raises:
        click.BadParameter: If some do not.
    """
    model, lr = settings["model"], settings["model"] == "lr"
    paper = settings["search"] == "paper"
    refuse(
        "--run-dir",
        settings["distribute"] == "multi_worker" and run_dir is None,
        "several workers need a directory that all of them can read: name one.",
    )
    refuse(
        "--optimizer",
        paper and settings["optimizer"] not in ("auto", "adam"),
        f"{settings['optimizer'].replace('_', '-')} has no L2 on thresholds, "
        "without which --search paper prunes nothing: use adam, or --search "
        "budget.",
    )
    one_rate = "--search paper has one rate: use --learning-rate."
    for name in ("search_rate", "retrain_rate"):
        refuse(flag_of(name), paper and settings[name], one_rate)
    for name in ("search_dim", "embedding_dim"):
        found = settings[name]
        one = f"lr has one weight per feature: found {found}, expected 1."
        refuse(flag_of(name), lr and found not in (None, 1), one)
    not_of_model = f"{model} has no such option: leave it out."
    whole = model in ("lr", "dcn", "autoint")
    refuse("--deep", settings["deep"] and model != "autoint", not_of_model)
    refuse("--linear", settings["linear"] == "pep" and whole, not_of_model)
    others = {*settings["compare"]} - {*SEARCHED}
    refuse("--compare", lr and others, not_of_model)


def _check_workers(flag: str, config: "Config") -> None:
    """Refuse an environment that does not say which workers there are.

    Raises:
        click.BadParameter: If it does not.
    """
    from keras_pep.lab.run.workers import check_tf_config

    if config.distribute == "multi_worker":
        with usage_error(flag, ValueError):
            check_tf_config(os.environ)


# Options that say where data are.
_MOVED = (
    *("dataset", "validation_file", "test_file", "data_dir", "cache_dir"),
    "vocabularies",
)


def _given() -> list[str]:
    """Names of the options that were given."""
    context = click.get_current_context()
    return [
        name
        for name in ("config", *context.params)
        if context.get_parameter_source(name)
        not in (None, ParameterSource.DEFAULT)
    ]


# What a run that goes on from another may have of its own.
_CONTINUED = (
    *("dataset", "data_dir", "cache_dir", "min_count", "split", "decay"),
    *("max_bad_rows", "evict_below", "seed", "export"),
    *("validation_file", "test_file"),
)
_OF_COMMAND = ("continued", "run_dir", "force", "quiet", "debug")


def _continued(run: Path, given: Mapping[str, Any]) -> "Config":
    """Make the settings of a run that goes on from another.

    Raises:
        click.BadParameter: If an option would make it another run.
    """
    from keras_pep.lab.run import RunDirectory

    for name in given:
        other = name not in (*_CONTINUED, *_OF_COMMAND)
        own = f"a run is continued with its own settings; leave {flag_of(name)}"
        refuse("--continue", other, f"{own} out.")
    old = "dataset" not in given and "data_dir" not in given
    which = "which rows are new? Name them with --dataset."
    refuse("--continue", old, which)
    config, _ = RunDirectory(run).read_config()
    return replace(
        config,
        continued=str(run.resolve()),
        search="auto",
        compare=(),
        distribute="none",
        **{
            # Earlier rows are not those of today.
            **dict.fromkeys(("validation_file", "test_file")),
            **{name: given[name] for name in _CONTINUED if name in given},
        },
    )


def _moved_data(options: dict[str, Any]) -> dict[str, str]:
    """Where the data of a run are said to be now.

    Raises:
        click.BadParameter: If an option would change the run.
    """
    kept = "a resumed run keeps the {} it was started with: leave {} out."
    given = [n for n in _given() if n not in ("resume", "quiet", "debug")]
    for name in given:
        problem = kept.format("settings", flag_of(name))
        refuse("--resume", name not in _MOVED, problem)
    named = "dataset" in given and options["dataset"] in NAMES
    refuse("--resume", named, kept.format("dataset", "--dataset"))
    return {name: str(Path(options[name]).resolve()) for name in given}


def _finish(
    directory: "RunDirectory",
    config: "Config | None",
    *,
    moved: Mapping[str, str] | None = None,
    force: bool = False,
) -> None:
    """Train, or go on where no settings are given; print the results."""
    from keras_pep.lab.report import write_report
    from keras_pep.lab.run import (
        Workers,
        advice,
        continued_line,
        export_run,
        exported,
        failed_parts,
        handle_sigint,
        results_table,
        resume,
        train,
    )

    try:
        with handle_sigint():
            if config is None:
                metrics = resume(directory, moved=moved)
            else:
                line = command_line()
                metrics = train(config, directory, force=force, command=line)
    except KeyboardInterrupt as interrupt:
        if not directory.begun:
            raise
        raise KeyboardInterrupt(
            f"Continue with: keras-pep train --resume {directory.path}"
        ) from interrupt
    settings, content = directory.read_config()
    if not Workers.of(settings.distribute).chief:
        return
    if line := advice(metrics) or continued_line(metrics):
        click.echo(f"\n{line}")
    click.echo(f"\n{results_table(metrics)}\n")
    for budget in metrics["budgets"]:
        if "planted_rank_correlation" in budget:
            click.echo(
                f"{budget['target']:,}: rank correlation of learned and "
                f"planted sizes {budget['planted_rank_correlation']:.2f} "
                "(of popularity and planted sizes "
                f"{budget['popularity_rank_correlation']:.2f})"
            )
    for note in content.get("data_notes", ()):
        click.echo(note)
    click.echo(f"run directory: {directory.path}")
    failed = [*failed_parts(metrics)]

    def attempt(name: str, result: Callable[[], Any]) -> None:
        try:
            click.echo(f"{name}: {result()}")
        except Exception as error:
            failed.append(name)
            tell_failure(f"{name} failed: {explained(error)}", error)

    attempt("report", lambda: write_report(directory.path))
    if settings.export:
        attempt(
            "SavedModel",
            lambda: exported(directory, metrics) or export_run(directory).path,
        )
    problems = []
    if metrics["budgets_not_reached"]:
        problems.append(_not_reached(metrics))
    if failed:
        problems.append(
            f"failed: {', '.join(failed)}. Everything else is done. Try again "
            f"with: keras-pep train --resume {directory.path}"
        )
    if problems:
        raise click.ClickException(" ".join(problems))


def _not_reached(metrics: Mapping[str, Any]) -> str:
    hint = "Allow more --search-epochs, or use --search budget."
    missed = metrics["budgets_not_reached"]
    if metrics["search"]["method"] == "auto":
        sizes = ", ".join(f"{size:,}" for size in missed)
        return f"No table is as small as {sizes}: ask for a larger size."
    search = metrics["search"]
    left = search.get("embedding_parameters")
    if left is None or metrics["budgets"] or metrics.get("budgets_failed"):
        return f"not reached: {', '.join(f'{b:,}' for b in missed)}. {hint}"
    return (
        f"No budget was reached: {left:,} embedding parameters are kept after "
        f"{search['steps']:,} steps. {hint}"
    )
