"""Makes the pictures of this folder from a run directory.

Needs a Chromium: the system's, or `playwright install chromium`.

Example:
    python docs/screenshots.py runs/movielens-fm
"""

import contextlib
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console
from rich.text import Text

FOLDER = Path(__file__).parent
PHONE = {"width": 390, "height": 844}
_DESKTOP = {"width": 1180, "height": 900}
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
def main(run: Path) -> None:
    """Write the report of RUN and take pictures of it and of a terminal."""
    from keras_pep.report import write_report

    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        report = write_report(run, Path(folder, "report.html"))
        with opened(browser, report, _DESKTOP) as page:
            _picture(page, "report.png", *_place(page, "header", "#quality"))
            _picture(
                page, "report-features.png", *_place(page, "#features", "#top")
            )
        phone = {"is_mobile": True, "has_touch": True, "scale": 2}
        with opened(browser, report, PHONE, **phone) as page:
            _picture(page, "report-phone.png", 0, 1.6 * PHONE["height"])
        terminal = Path(folder, "terminal.html")
        terminal.write_text(_terminal(["evaluate", str(run)]))
        with opened(browser, terminal, _DESKTOP) as page:
            page.locator("svg").screenshot(path=FOLDER / "terminal.png")


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


def _picture(page: Page, name: str, top: float, bottom: float) -> None:
    width = page.evaluate("innerWidth")
    page.screenshot(
        path=FOLDER / name,
        full_page=True,
        clip={"x": 0, "y": top, "width": width, "height": bottom - top},
    )


def _terminal(arguments: list[str]) -> str:
    """What a command prints, as a drawing of a terminal."""
    command = Path(sys.executable).with_name("keras-pep")
    printed = subprocess.run(
        [command, *arguments], capture_output=True, text=True, check=True
    ).stdout
    console = Console(record=True, file=io.StringIO(), width=86)
    console.print(Text(f"$ keras-pep {' '.join(arguments)}", style="bold"))
    console.print(Text(printed.rstrip()))
    return console.export_svg(title="keras-pep")


if __name__ == "__main__":
    main()
