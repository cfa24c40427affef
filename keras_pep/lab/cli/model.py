"""Which model of a run: the options of the commands that also take others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--budget` and `--dense`."""
    for option in (
        click.option("--dense", is_flag=True, help="Take a run's dense model."),
        click.option(
            "--budget",
            type=click.IntRange(min=1),
            help="Take a run's model of this budget.  [default: the model of "
            "the best validation AUC]",
        ),
    ):
        command = option(command)
    return command


def refuse_choice(path: Path, budget: int | None, dense: bool) -> None:
    """Refuse to choose among the models of a SavedModel, which is one."""
    if dense or budget is not None:
        raise click.BadParameter(
            f"{path} is a SavedModel, which holds one model: leave it out.",
            param_hint="--dense" if dense else "--budget",
        )
