"""The page: everything in one file, which opens without a network."""

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from plotly.offline import get_plotlyjs

from keras_pep.data.dataset import PARSED
from keras_pep.files import whole
from keras_pep.lab.report.charts import (
    budget_choices,
    charts,
    field_choices,
    lacking_features,
)
from keras_pep.lab.report.content import RunContent, read_runs
from keras_pep.lab.report.figures import (
    STAGE_TITLES,
    model_figures,
    size_of,
    stage_figures,
)
from keras_pep.lab.run import RunError
from keras_pep.lab.text import UNKNOWN

_TITLES = (
    *("model", "kept", "pruned", "test AUC", "AUC against dense"),
    "log-loss",
    *("parameters", "bytes", "bytes in int8"),
)


def write_report(run: str | Path, path: Path | None = None) -> Path:
    """Writes the page of a run.

    Args:
        run: The run directory.
        path: Where to; by default `report.html` in it.

    Returns:
        The path.

    Raises:
        RunError: If it is not a run directory, its files are damaged or do not
            belong together, or the page cannot be written.
    """
    path = path or Path(run) / "report.html"
    write_page(read_runs([run]), path)
    return path


def write_page(runs: Sequence[RunContent], path: Path) -> None:
    """Writes the page of one or more runs, whole or not at all.

    Args:
        runs: What `read_runs` returns.
        path: Where to.

    Raises:
        RunError: If it cannot be written.
    """
    text = page(runs)
    try:
        with whole(path, alone=True) as partial:
            # Its scripts are known by what they are, line ends too.
            partial.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise RunError(
            f"{path} cannot be written: {error.strerror or error}."
        ) from error


def page(runs: Sequence[RunContent]) -> str:
    """The page as text.

    Names of data are escaped wherever they are, and the page forbids itself
    scripts other than its own, and any network.
    """
    scripts = [get_plotlyjs(), _part("report.js")]
    title, lacking = escape(_title(runs)), lacking_features(runs)

    def each(made: Callable[[RunContent, bool], str]) -> str:
        return "".join(made(run, len(runs) > 1) for run in runs)

    return Template(_part("report.html")).substitute(
        title=title,
        policy=escape(_policy(scripts)),
        style=_part("report.css"),
        notices=each(_notice),
        facts=each(lambda run, of: _heading(run, of) + _pairs(run.facts)),
        tiles=_tiles(runs[0]) if len(runs) == 1 else "",
        results=each(_results),
        stages=each(_stages),
        fields=each(_fields),
        origins=each(_origin),
        budgets=_budgets(runs),
        names=_names(runs),
        lacking=lacking,
        hidden=" hidden" if lacking else "",
        top=_top(runs),
        data=_json(charts(runs)),
        plotly=scripts[0],
        script=scripts[1],
    )


def _part(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _title(runs: Sequence[RunContent]) -> str:
    if len(runs) > 1:
        return f"{len(runs)} runs compared"
    unfinished = ", unfinished" if runs[0].unfinished else ""
    return f"{runs[0].facts['model']} on {runs[0].facts['data']}{unfinished}"


def _notice(run: RunContent, several: bool) -> str:
    """Which model to take, or that a run is unfinished."""
    if run.unfinished is None:
        name = f"{escape(run.name)}: " * several
        advice = f"<p><b>{name}{escape(run.advice or '')}</b></p>"
        return f'<div class="notice">{advice}</div>' * bool(run.advice)
    name = f"{escape(run.name)} is unfinished" if several else "Unfinished"
    return (
        f'<div class="notice"><p><b>{name}.</b> '
        f"{escape(run.unfinished.state)} {escape(run.unfinished.hint)}:</p>"
        f"{_command(run.unfinished.command)}</div>"
    )


def _policy(scripts: Iterable[str]) -> str:
    """Only these scripts run, and nothing is loaded from anywhere."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    known = (base64.b64encode(digest).decode() for digest in digests)
    hashes = " ".join(f"'sha256-{digest}'" for digest in known)
    return (
        f"default-src 'none'; script-src {hashes}; "
        "style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _budgets(runs: Sequence[RunContent]) -> str:
    """Budgets to choose from; the smallest says most about what matters."""
    known = budget_choices(runs)
    return "".join(
        f'<option value="{b}"{" selected" * (b == known[-1])}>{b:,}</option>'
        for b in known
    )


def _names(runs: Sequence[RunContent]) -> str:
    """Fields to choose from, by their places."""
    names = enumerate(field_choices(runs).values())
    return '<option value="">all fields</option>' + "".join(
        f'<option value="{n}">{escape(name)}</option>' for n, name in names
    )


def _top(runs: Sequence[RunContent]) -> str:
    title = "h4" if len(runs) > 1 else "h4 hidden"
    return "".join(
        f'<{title} id="top-title-{n}"></h4>'
        f'<div class="chart" id="top-{n}"></div>'
        for n, run in enumerate(runs)
        if run.features
    )


def _json(content: Mapping[str, Any]) -> str:
    """JSON that nothing in it can end, or make a tag or a comment of."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _tiles(run: RunContent) -> str:
    """Show at a glance what each budget costs and saves."""
    tiles = ""
    for model in [m for m in run.models if m.kind in ("dense", "search")][:7]:
        _, kept, sparsity, auc, less, *_ = model_figures(run, model)
        pruned = "full table" if model is run.dense else f"{sparsity} pruned"
        auc = f"AUC {auc}" + (f" ({less})" if less else "")
        lines = (pruned, auc, size_of(run, model))
        rest = "".join(f"<span>{escape(line)}</span>" for line in lines)
        tiles += f'<li><b>{kept}</b><span class="unit">kept</span>{rest}</li>'
    return tiles


def _results(run: RunContent, several: bool) -> str:
    rows = [model_figures(run, model) for model in run.models]
    if not rows and not run.failed:
        return ""
    title = _heading(run, several)
    missed = ", ".join(f"{budget:,}" for budget in run.not_reached)
    notes = [f"Not reached: {missed}."] if missed else []
    notes += [f"{name} failed: {why}" for name, why in run.failed.items()]
    lines = "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
    return f"{title}{_table(_TITLES, rows)}{lines}"


def _fields(run: RunContent, several: bool) -> str:
    """The numbers of the figure of fields."""
    if run.features is None:
        return ""
    budgets = run.features.budgets
    titles = ["field", "features", "occurrences"]
    titles += [f"kept of {b['target']:,}" for b in budgets]
    rows = []
    for place, field in enumerate(run.features.fields):
        counts = [field["features"], field["occurrences"]]
        counts += [budget["kept"][place] for budget in budgets]
        texts = (UNKNOWN if n is None else f"{n:,}" for n in counts)
        rows.append((field["name"], *texts))
    return _numbers(run, several, _table(titles, rows))


def _stages(run: RunContent, several: bool) -> str:
    """The numbers of the figure of epochs."""
    if not run.stages:
        return ""
    rows = map(stage_figures, run.stages)
    return _numbers(run, several, _table(STAGE_TITLES, rows))


def _numbers(run: RunContent, several: bool, table: str) -> str:
    of = f" of {escape(run.name)}" if several else ""
    return f"<details><summary>The numbers{of}</summary>{table}</details>"


def _origin(run: RunContent, several: bool) -> str:
    """How to make the run again."""
    command = "<p>The run has not noted its command.</p>"
    if run.command is not None:
        command = _command(run.command)
    columns = ""
    if run.columns:
        columns = (
            "<details><summary>How columns were read</summary>"
            f"{_table(PARSED, run.columns)}</details>"
        )
    return (
        f"{_heading(run, several)}{command}{columns}"
        f"<details><summary>Environment</summary>"
        f"{_pairs(run.environment)}</details>"
        f"<details><summary>All settings</summary>"
        f"{_pairs(run.settings)}</details>"
    )


def _heading(run: RunContent, several: bool) -> str:
    return f"<h3>{escape(run.name)}</h3>" if several else ""


def _command(line: str) -> str:
    """Words of their own, so that no line ends in the middle of an option."""
    words = " ".join(f"<span>{escape(word)}</span>" for word in line.split(" "))
    return f'<pre tabindex="0"><code>{words}</code></pre>'


def _pairs(values: Mapping[str, str]) -> str:
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value) or UNKNOWN}</dd></div>"
        for name, value in values.items()
    )
    return f"<dl>{items}</dl>"


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells know their title, as it is cards on a phone."""
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    body = "".join(
        "<tr>"
        + f'<th scope="row">{escape(row[0])}</th>'
        + "".join(
            f'<td data-title="{escape(title)}">{escape(cell)}</td>'
            for title, cell in zip(titles[1:], row[1:], strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
