"""The parts all commands share: options, lines, and errors in one line."""

import contextlib
import dis
import functools
import inspect
import logging
import math
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from click.exceptions import Exit

from keras_pep.lab.settings import Settings


def command(
    function: Callable[..., None], *, progress: bool = False
) -> click.Command:
    """Make a click command with `--quiet` and `--debug`.

    Args:
        function: What it does.
        progress: Whether it shows, unless quiet, all that keras-pep logs; else
            it shows warnings alone.
    """

    @functools.wraps(function)
    def wrapped(*args: Any, debug: bool, **kwargs: Any) -> None:
        if not debug:
            load_silently()
        with _logged(quiet=not progress or kwargs["quiet"]):
            function(*args, **kwargs)

    for option in (
        click.option("-q", "--quiet", is_flag=True, help="Print results only."),
        click.option(_DEBUG, is_flag=True, help="Show tracebacks of errors."),
    ):
        wrapped = option(wrapped)
    return click.command(context_settings={"show_default": True})(wrapped)


class _Lines(logging.Handler):
    """Handler that prints what is logged, on stdout or on stderr."""

    def __init__(self, err: bool) -> None:
        super().__init__()
        self.err = err

    def emit(self, record: logging.LogRecord) -> None:
        """Print a line; of a failure, what is known of it."""
        if record.exc_info and isinstance(record.exc_info[1], Exception):
            tell_failure(record.getMessage(), record.exc_info[1])
        else:
            end_bar()
            click.echo(record.getMessage(), err=self.err)


@contextlib.contextmanager
def _logged(*, quiet: bool) -> Iterator[None]:
    """Show what keras-pep logs."""
    logger = logging.getLogger("keras_pep")
    level, lines = logger.level, _Lines(err=quiet)
    logger.addHandler(lines)
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(lines)


_DEBUG = "--debug"
_ARGUMENTS = "keras_pep.arguments"


class Commands(click.Group):
    """Commands whose errors are a line, and which know how they were called."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Remember the arguments as they were given."""
        ctx.meta[_ARGUMENTS] = [*args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Do a command; exit with 1 and a line if it fails."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, Exit, BrokenPipeError):
            end_bar()
            raise
        except (KeyboardInterrupt, Exception) as error:
            if _DEBUG in ctx.meta[_ARGUMENTS]:
                raise
            end_bar()
            if isinstance(error, KeyboardInterrupt):
                hint = str(error) or "What was finished is kept."
                click.echo(f"Interrupted. {hint}", err=True)
            else:
                click.echo(f"Error: {explained(error)}", err=True)
            sys.exit(1)


def command_line() -> str | None:
    """The line that the current command was called by; None if by no line."""
    given = click.get_current_context().meta.get(_ARGUMENTS)
    return None if given is None else shlex.join(["keras-pep", *given])


def tell_failure(line: str, error: Exception) -> None:
    """Say in a line that a part of a command has failed, which goes on."""
    end_bar()
    if click.get_current_context().params["debug"]:
        traceback.print_exception(error)
        click.echo(line, err=True)
    else:
        hint = "" if _DEBUG in line else f" ({_DEBUG} shows where)"
        click.echo(f"{line}{hint}", err=True)


def end_bar() -> None:
    """Clear the line of a bar, and show the cursor that it has hidden."""
    if sys.stdout.isatty():
        click.echo("\r\033[2K\033[?25h", nl=False)


def explained(error: Exception) -> str:
    """Say in a line what went wrong, and what to do.

    What a check of ours has found says so itself. Anything else is the
    system's doing, or a mistake in the program.
    """
    message = " ".join(str(error).split()) or "no message"
    kind = type(error).__name__
    if _is_of_a_check(error):
        return message
    if isinstance(error, MemoryError) or kind == "ResourceExhaustedError":
        return (
            f"There is not enough memory: {message}. Use a smaller "
            "--embedding-dim or --batch-size, or a larger machine."
        )
    if isinstance(error, OSError):
        names = (error.filename, error.strerror or message)
        what = ": ".join(str(name) for name in names if name is not None)
        return f"{what} ({kind}; {_DEBUG} shows where)"
    if isinstance(error, ImportError):
        return f"{message}. Is it installed? ({_DEBUG} shows where)"
    return (
        f"internal error: {kind}: {message.rstrip('.')}. This is unexpected, "
        f"and probably a bug of keras-pep: run it again with {_DEBUG}, and "
        "report what it shows."
    )


def _is_of_a_check(error: Exception) -> bool:
    """Tell whether a `raise` in our own code has raised it.

    A `ValueError` of ours is one as that of any library; only the place tells
    them apart.
    """
    ours = ("keras_pep",)
    if type(error).__module__.partition(".")[0] in ours:
        return True
    if isinstance(error, AssertionError | NotImplementedError):
        return False  # not meant for who uses the command
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    code = trace.tb_frame.f_code.co_code
    name = trace.tb_frame.f_globals.get("__name__", "")
    raised = code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    return raised and name.partition(".")[0] in ours


def load_silently() -> None:
    """Load TensorFlow with what it logs meanwhile kept off the terminal.

    Its first lines come from C++, before any setting of its own is read.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import tensorflow as tf

        for found in (tf.get_logger(), logging.getLogger("absl")):
            found.setLevel(logging.ERROR)
        import keras_pep.lab.run  # noqa: F401

        if "TF_CONFIG" not in os.environ:  # or workers could not be joined
            tf.config.list_logical_devices()  # looks for a GPU, and says so
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextlib.contextmanager
def usage_error(flag: str, *kinds: type[Exception]) -> Iterator[None]:
    """Make errors of some kinds errors of usage of an option."""
    try:
        yield
    except kinds as error:
        raise click.BadParameter(str(error), param_hint=flag) from error


def refuse(flag: str, wrong: Any, problem: str) -> None:
    """Make it an error of usage of an option if something is wrong."""
    if wrong:
        raise click.BadParameter(problem, param_hint=flag)


def flag_of(setting: str) -> str:
    """The option of a setting."""
    return f"--{setting.replace('_', '-')}"


FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
# Types of options, by the names of settings.
Table = Mapping[str, click.ParamType[Any]]
HELP = {
    name: " ".join(text.split()).replace(" [default", "  [default")
    for name, text in re.findall(
        r"^ {4}(\w+): ((?:.|\n {8})*)",
        inspect.cleandoc(Settings.__doc__ or ""),
        re.MULTILINE,
    )
}


def options(table: Table) -> Callable[[Callable[..., None]], Any]:
    """Add an option for each setting of a table, with its help and default.

    A default that the help tells itself is that of no option.
    """

    def add(function: Callable[..., None]) -> Callable[..., None]:
        for name, kind in reversed([*table.items()]):
            default, text = getattr(Settings, name), HELP.get(name, "")
            given = default not in (None, ()) and "[default:" not in text
            flag = flag_of(name)
            if isinstance(default, bool):
                flag += f"/--no-{flag[2:]}"
            function = click.option(
                flag,
                type=kind,
                default=default if given else None,
                show_default=given,
                # Several labels are refused, not the last one taken.
                multiple=name == "label"
                or (isinstance(default, tuple) and name != "fields"),
                help=text,
            )(function)
        return function

    return add


class Text(click.ParamType[Any]):
    """A text that the help has a name for, and a function that reads it.

    Args:
        name: As the help has it, with words to type in lower case.
        read: Returns what the text stands for. A `ValueError` of it is an
            error of usage.
    """

    def __init__(self, name: str, read: Callable[[str], Any] = str) -> None:
        self.name = name
        self.read = read

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """The name as it is given."""
        del param, ctx
        return self.name

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        """Read the text, or raise an error of usage."""
        try:
            return self.read(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Choice(click.Choice[str]):
    """Words that are spelt with `-` here, and with `_` in Python."""

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str:
        """The word as in Python, or an error of usage."""
        found = super().convert(value.replace("_", "-"), param, ctx)
        return found.replace("-", "_")


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
