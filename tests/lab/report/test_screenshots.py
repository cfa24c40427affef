import re
from html import unescape

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is missing")

import click

from docs.screenshots import terminal


def test_a_terminal_shows_the_end_of_what_a_command_prints(tmp_path):
    drawing = terminal(["train", "--help"], tmp_path)
    rows = re.findall(r"<text [^>]*clip-path=.*?>(.*?)</text>", drawing)
    text = unescape("".join(rows)).replace("\N{NO-BREAK SPACE}", " ")
    assert "Show this message and exit." in text
    assert "$ keras-pep train --help" not in text  # that is further up
    assert drawing.count("<clipPath") <= 42


def test_a_command_that_fails_has_no_picture(tmp_path):
    with pytest.raises(click.ClickException, match="No such option"):
        terminal(["train", "--wrong"], tmp_path)
