"""Help that reads as sentences: each option says what it is."""

import re

import click
import pytest

from keras_pep.lab.cli import main

COMMANDS = {
    name: main.get_command(click.Context(main), name)
    for name in main.list_commands(click.Context(main))
}
OPTIONS = [
    (f"{command} {option.opts[-1]}", option)
    for command, found in COMMANDS.items()
    for option in found.params
    if isinstance(option, click.Option)
]
# Clauses and genitives that stand where a noun or a verb should.
NO_HEAD = re.compile(
    r"(What|Of|That|Those|Who|Whose|Whether|Which|Where|How)\b"
)


@pytest.mark.parametrize(
    "option", [o for _, o in OPTIONS], ids=[name for name, _ in OPTIONS]
)
def test_the_help_of_an_option_is_a_sentence(option):
    text, _, default = (option.help or "").partition("  [default")
    assert re.match(r"[A-Z].*\.$", text), text
    assert not NO_HEAD.match(text), text
    assert not default or default.endswith("]")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_an_example_that_it_understands(name):
    text = COMMANDS[name].help
    assert re.match(r"[A-Z][^\n]*\.\n", text), text
    assert not NO_HEAD.match(text), text
    example = text.partition("Example")[2]
    flags = re.findall(r"--[\w-]+", example)
    known = {flag for option in COMMANDS[name].params for flag in option.opts}
    assert f"keras-pep {name}" in example
    assert set(flags) <= known
