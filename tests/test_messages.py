"""Errors and log lines are sentences that say what to do."""

import ast
import re

import pytest

from tests.test_docs import ROOT, SOURCES

# Clauses and genitives that stand where a noun or a verb should.
NO_HEAD = re.compile(r"(What|Of|That|Those|Who|Whose|Whether|Which)\b")
IDIOM = re.compile(
    r"ha(s|ve) begun with|goes? on with|no more of|train anew|cannot be told"
)
LOGS = {"info", "warning", "error", "warn"}


def text(node):
    """The text of an expression, `{}` for what is put into it."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            part.value if isinstance(part, ast.Constant) else "{}"
            for part in node.values
        )
    return "{}"


def messages():
    """Where each message is, and its text."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise):
                call = node.exc
            elif isinstance(node, ast.Call) and LOGS & {
                getattr(node.func, "attr", "")
            }:
                call = node
            else:
                continue
            if isinstance(call, ast.Call) and call.args:
                where = f"{path.relative_to(ROOT)}:{node.lineno}"
                yield where, text(call.args[0])


MESSAGES = [*messages()]


def test_messages_are_found():
    assert len(MESSAGES) > 200


@pytest.mark.parametrize("pattern", [NO_HEAD, IDIOM], ids=["head", "idiom"])
def test_no_message_is_a_riddle(pattern):
    find = pattern.match if pattern is NO_HEAD else pattern.search
    assert [(where, said) for where, said in MESSAGES if find(said)] == []


def test_a_message_of_several_sentences_ends_one():
    """Or with the value that was received or found."""
    value = re.compile(r"(Received|Found|Its tables|Expected|found):? [^.]*$")
    bad = [
        (where, said)
        for where, said in MESSAGES
        if re.match(r"[A-Z`].*[a-z)`]\. [A-Z]", said)
        and not said.endswith((".", "}", ")"))
        and not value.search(said)
    ]
    assert bad == []
