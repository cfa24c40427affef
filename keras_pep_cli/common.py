"""What all commands share: quiet, debug, and errors in one line."""

import functools
import logging
import math
import os
import shlex
import sys
from collections.abc import Callable
from typing import Any

import click


def command(function: Callable[..., None]) -> click.Command:
    """Makes a click command with `--quiet`, `--debug` and one-line errors."""

    @functools.wraps(function)
    def wrapped(*args: Any, debug: bool, **kwargs: Any) -> None:
        try:
            if not debug:
                _load_silently()
            function(*args, **kwargs)
        except (click.ClickException, click.Abort):
            _end_bar()
            raise
        except KeyboardInterrupt as interrupt:
            if debug:
                raise
            hint = str(interrupt) or "What was finished is kept."
            _end_bar()
            click.echo(f"Interrupted. {hint}", err=True)
            sys.exit(1)
        except Exception as error:
            if debug:
                raise
            message = " ".join(str(error).split()) or "no message"
            kind = type(error).__name__
            if kind not in _EXPECTED:
                message = f"{kind}: {message} (--debug shows where)"
            _end_bar()
            click.echo(f"Error: {message}", err=True)
            sys.exit(1)

    for option in (
        click.option("-q", "--quiet", is_flag=True, help="Say only results."),
        click.option("--debug", is_flag=True, help="Show tracebacks."),
    ):
        wrapped = option(wrapped)
    return click.command()(wrapped)


def _end_bar() -> None:
    """Clears the line that a bar was drawn in; shows the cursor it has hid."""
    if sys.stdout.isatty():
        click.echo("\r\033[2K\033[?25h", nl=False)


class Commands(click.Group):
    """Commands that can ask for the line they were called by."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Remembers the arguments as they were given."""
        ctx.meta[_COMMAND_LINE] = shlex.join(["keras-pep", *args])
        return super().parse_args(ctx, args)


def command_line() -> str | None:
    """The line that the current command was called by; None if by no line."""
    line: str | None = click.get_current_context().meta.get(_COMMAND_LINE)
    return line


_COMMAND_LINE = "keras_pep.command_line"


_EXPECTED = (
    *("DataError", "RunError", "ValueError"),
    *("ExportError", "ServingError"),
    *("WorkerLostError", "WorkersDisagreeError"),
)


def _load_silently() -> None:
    """Loads TensorFlow with what it logs meanwhile kept off the terminal.

    Its first lines come from C++, before any setting of its own is read.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import tensorflow as tf

        for name in ("tensorflow", "absl"):
            logging.getLogger(name).setLevel(logging.ERROR)
        import keras_pep.run  # noqa: F401

        if "TF_CONFIG" not in os.environ:  # or workers could not be joined
            tf.config.list_logical_devices()  # looks for a GPU, and says so
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class FiniteFloat(click.FloatRange):
    """A float within a range that is neither infinite nor not a number."""

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """The number, or an error of usage."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number
