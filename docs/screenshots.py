"""Makes the pictures of this folder: a run as it trains, and its report.

Needs a Chromium: the system's, or `playwright install chromium`.

Example:
    python docs/screenshots.py --dataset movielens --data-dir /path/to/ml-1m \\
        --features paper
"""

import contextlib
import io
import os
import pty
import shlex
import shutil
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from playwright.sync_api import Browser, Page, sync_playwright
from rich.ansi import AnsiDecoder
from rich.console import Console

FOLDER = Path(__file__).parent
PHONE = {"width": 390, "height": 844}
_DESKTOP = {"width": 1180, "height": 900}
_ROWS, _COLUMNS = 40, 100  # of the terminal
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@click.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--output",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=FOLDER,
    help="Where to leave the pictures.  [default: beside this file]",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="That of keras-pep train; pictures have nothing but its name.",
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def main(output: Path, data_dir: Path | None, options: tuple[str, ...]) -> None:
    """Train with OPTIONS; take pictures of the terminal and of the report."""
    with tempfile.TemporaryDirectory() as name, open_browser() as browser:
        folder = Path(name)
        if data_dir is not None:
            (folder / data_dir.name).symlink_to(data_dir.resolve())
            options = (*options, "--data-dir", data_dir.name)
        drawing = folder / "terminal.html"
        drawing.write_text(terminal(["train", *options], folder))
        with opened(browser, drawing, _DESKTOP) as page:
            page.locator("svg").screenshot(path=output / "terminal.png")
        (report,) = folder.glob("runs/*/report.html")
        with opened(browser, report, _DESKTOP) as page:
            for picture, first, last in (
                ("report.png", "header", "#quality"),
                ("report-features.png", "#features", "#top"),
            ):
                _picture(page, output / picture, *_place(page, first, last))
        phone = {"is_mobile": True, "has_touch": True, "scale": 2}
        with opened(browser, report, PHONE, **phone) as page:
            end = 1.6 * PHONE["height"]
            _picture(page, output / "report-phone.png", 0, end)


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """A headless browser.

    Raises:
        FileNotFoundError: If there is none.
    """
    with sync_playwright() as playwright:
        found = filter(None, map(shutil.which, _BROWSERS))
        path = next(found, playwright.chromium.executable_path)
        if not Path(path).exists():
            raise FileNotFoundError(
                f"found no {', no '.join(_BROWSERS)}: install one, or run "
                "`playwright install chromium`"
            )
        browser = playwright.chromium.launch(executable_path=path)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def opened(
    browser: Browser,
    path: Path,
    size: Any,
    *,
    scale: float = 1,
    **settings: Any,
) -> Iterator[Page]:
    """A page from disk, once its figures are drawn."""
    context = browser.new_context(
        viewport=size, device_scale_factor=scale, offline=True, **settings
    )
    page = context.new_page()
    page.goto(path.resolve().as_uri())
    yield page
    context.close()


def _place(page: Page, first: str, last: str) -> tuple[float, float]:
    """From where to where two elements and what is between them are."""
    top, bottom = (page.locator(name).bounding_box() for name in (first, last))
    assert top is not None
    assert bottom is not None
    return top["y"] - 16, bottom["y"] + bottom["height"] + 16


def _picture(page: Page, path: Path, top: float, bottom: float) -> None:
    width = page.evaluate("innerWidth")
    page.screenshot(
        path=path,
        full_page=True,
        clip={"x": 0, "y": top, "width": width, "height": bottom - top},
    )


def terminal(arguments: list[str], folder: Path) -> str:
    """Draw what a command leaves on the screen of a terminal.

    Of each line that is what was written after the last return to its start.
    """
    command = shlex.join(["keras-pep", *arguments])
    printed = _printed(arguments, folder).replace("\r\n", "\n")
    rows = [
        row
        for line in AnsiDecoder().decode(f"$ {command}\n{printed}")
        for row in line.divide(range(_COLUMNS, len(line), _COLUMNS))
    ]
    console = Console(record=True, file=io.StringIO(), width=_COLUMNS)
    for row in rows[-_ROWS:]:
        console.print(row)
    return console.export_svg(title="keras-pep")


def _printed(arguments: list[str], folder: Path) -> str:
    """All that a command writes to a terminal, controls included.

    Raises:
        click.ClickException: If it fails.
    """
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (_ROWS, _COLUMNS))
    process = subprocess.Popen(
        [Path(sys.executable).with_name("keras-pep"), *arguments],
        stdin=its,
        stdout=its,
        stderr=its,
        cwd=folder,
    )
    os.close(its)
    output = b""
    # Linux calls it an error that the other end was closed.
    with contextlib.suppress(OSError):
        while part := os.read(ours, 4096):
            output += part
    os.close(ours)
    text = output.decode(errors="replace")
    if process.wait():
        raise click.ClickException(f"keras-pep failed:\n{text[-2000:]}")
    return text


if __name__ == "__main__":
    main()
