"""Figures of the page, in Plotly's JSON, and the choices among them.

They are plain dictionaries: loading Plotly's classes takes longer than making
all figures. Names come from data; Plotly reads tags in text, so `_plain`
escapes each of them.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from itertools import groupby
from math import log
from typing import Any

from keras_pep.lab.report.content import SPLITS, ModelContent, RunContent
from keras_pep.lab.report.features import FeatureContent
from keras_pep.lab.report.figures import size_of
from keras_pep.lab.report.names import cut
from keras_pep.lab.text import figure

# What to show while selects of the page, by id, have one of some values.
Choices = list[tuple[dict[str, list[str]], Any]]

# Its name, value, text, colour and hovered text.
_Bar = tuple[str, float, str, str, str]
_LOOKS = {
    "dense": ("#7b8794", "square", "full table"),
    "search": ("#0b7fc7", "circle", "keras-pep"),
    "magnitude": ("#d9822b", "triangle-up", "magnitude"),
    "uniform": ("#8e6bbf", "cross", "uniform"),
    "mixed-dimension": ("#2a9d6f", "star", "mixed dimensions"),
    "paper": ("#c2456e", "x", "the paper's search"),
    "prefix-search": ("#0b7fc7", "circle", "prefix-search"),
    "warm-search": ("#2a9d6f", "circle", "warm-search"),
    "warm-uniform": ("#8e6bbf", "circle", "warm-uniform"),
    "one-shot": ("#a98a00", "circle", "one-shot"),
    "wide-one-shot": ("#7f4f24", "circle", "wide-one-shot"),
    "gradual-magnitude": ("#d9822b", "circle", "gradual magnitude"),
}
# A stage of one of several candidates for a size, of which there are many.
_CANDIDATE = re.compile(
    r"(try|search)-([a-z-]+?)((-\d+)?-\d+(?:B(?:-scaled)?)?)?"
)
# Told apart with a colour vision deficiency too: after Okabe and Ito.
_COLORS = ["#0b7fc7", "#d9822b", "#2a9d6f", "#c2456e", "#8e6bbf", "#a98a00"]
_COLORS += ["#7f4f24", "#7b8794"]
# The light theme; the script has the dark one's instead.
_PAGE, _CARD, _INK = "#fbfbfa", "#ffffff", "#1d2329"
_LINE, _GRID = "#d9dee2", "#e8ecef"
_NEVER = 0.4  # where a count of 0 is on a logarithmic axis; rounded it is 0
_EARLIER = "it is of an earlier version of keras-pep."
_MEANS = (
    "Means are of all features, by powers of two of how often they occur. "
    "Points are moved up or down by up to 0.3, so as not to hide each other."
)
_KEPT = "kept embedding parameters"
_EXPORTED = "bytes of the model, exported in int8"
_SIZE = "embedding size (entries kept)"


@dataclass(frozen=True)
class _Shown:
    """A run among those of the page."""

    run: RunContent
    runs: Sequence[RunContent]
    place: int

    @property
    def of(self) -> list[str]:
        """The name of the run, if there are others."""
        return [self.run.name] if len(self.runs) > 1 else []

    def color(self, kind: str) -> str:
        return _color(self.place) if self.of else _look(kind)[0]

    def feature_color(self, field: int) -> str:
        return _color(field if self.apart else self.place)

    @property
    def apart(self) -> bool:
        """Whether fields are few enough to have a colour each."""
        return not self.of and len(self.fields) <= len(_COLORS)

    @property
    def features(self) -> FeatureContent:
        return self.run.features or FeatureContent([], [], {}, 0, None)

    @property
    def fields(self) -> list[str]:
        return [field["name"] for field in self.features.fields]

    @cached_property
    def choices(self) -> list[str]:
        """The choice of all fields, and that of each field."""
        keys = [*field_choices(self.runs)]
        known = (field["key"] for field in self.features.fields)
        return ["", *(str(keys.index(key)) for key in known)]

    @cached_property
    def budgets(self) -> list[tuple[list[str], dict[str, Any], list[int]]]:
        """List, for each budget, the closest choices, itself, and its sizes."""
        known = self.features.budgets
        shown: list[list[str]] = [[] for _ in known]
        for choice in budget_choices(self.runs) if known else ():
            ratios = (max(1, b["target"]) / max(1, choice) for b in known)
            far = [abs(log(ratio)) for ratio in ratios]
            shown[far.index(min(far))].append(str(choice))
        sizes = self.features.drawn.get("sizes", ())
        return [*zip(shown, known, sizes, strict=True)]


def charts(runs: Sequence[RunContent]) -> dict[str, Choices]:
    """Make the figures, or texts instead, by the id of their element."""
    all_shown = [_Shown(run, runs, place) for place, run in enumerate(runs)]
    early = all(run.unfinished for run in runs)
    found: dict[str, Choices] = {
        name: [
            ({"split": [split]}, _quality(all_shown, split, name, title))
            for split in SPLITS
        ]
        for name, title in (("auc", "AUC"), ("logloss", "log-loss"))
    }
    unknown = f"The run has not noted what was kept at which step: {_EARLIER}"
    not_yet = "The search has not got so far yet." if early else unknown
    found["steps"] = [({}, _steps(all_shown) or not_yet)]
    unknown = "The run has not noted its epochs."
    not_yet = "No epoch is over yet." if early else unknown
    found["epochs"] = [({}, _epochs(all_shown) or not_yet)]
    found["bytes"] = [({}, _bytes(all_shown) or "Nothing is known yet.")]
    if not lacking_features(runs):
        found |= _frequency(all_shown) | _fields(all_shown)
        for shown in all_shown:
            found |= _top(shown)
    return found


def lacking_features(runs: Sequence[RunContent]) -> str:
    """Say why there are no figures of features; nothing if there are."""
    if any(run.features for run in runs):
        return ""
    if all(run.unfinished for run in runs):
        return "The search is not over yet."
    return f"The run has not noted which features there are: {_EARLIER}"


def budget_choices(runs: Sequence[RunContent]) -> list[int]:
    """Budgets of any run, the largest first."""
    known = [run.features.budgets for run in runs if run.features]
    return sorted({b["target"] for of in known for b in of}, reverse=True)


def field_choices(runs: Sequence[RunContent]) -> dict[str, str]:
    """Names of the fields of any run, by what tells them apart."""
    known = [run.features.fields for run in runs if run.features]
    return {field["key"]: field["name"] for of in known for field in of}


def _quality(
    all_shown: Sequence[_Shown], split: str, name: str, title: str
) -> Any:
    traces, lines = [], []
    models = [model for shown in all_shown for model in shown.run.models]
    # What users pay, where it is known.
    known_bytes = all(model.exported for model in models)

    def value(model: ModelContent | None) -> float | None:
        return model.figures[split][name] if model else None

    for shown in all_shown:
        run, full = shown.run, value(shown.run.dense)
        for kind in dict.fromkeys(model.kind for model in run.models):
            known = [m for m in run.models if m.kind == kind]
            known = [m for m in known if value(m) is not None]
            known.sort(key=lambda model: model.exported or model.kept)
            hover = []
            for model in known:
                text = f"{title} {figure(value(model))}"
                if full is not None and kind != "dense":
                    less = f"{(value(model) or 0.0) - full:+.4f}"
                    less = less.replace("-", "\N{MINUS SIGN}")
                    text += f" ({less} to the full table)"
                kept = f"{model.kept:,} kept, {model.sparsity:.1%} pruned"
                size = size_of(run, model)
                hover.append(_hover(*shown.of, model.name, kept, text, size))
            _, symbol, label = _look(kind)
            label, color = ": ".join((*shown.of, label)), shown.color(kind)
            mode = "markers" if kind == "dense" else "lines+markers"
            marker = {"color": color, "symbol": symbol, "size": 10}
            line = {"color": color, "width": 3 if kind == "search" else 1.5}
            x = [m.exported if known_bytes else m.kept for m in known]
            y = [value(m) for m in known]
            if known:
                looks = {"mode": mode, "marker": marker, "line": line}
                traces.append(_trace(x, y, label, hovertext=hover, **looks))
        if full is not None:
            dash = {"color": shown.color("dense"), "width": 1, "dash": "dash"}
            ends = {"xref": "paper", "x0": 0, "x1": 1, "y0": full, "y1": full}
            lines.append(
                ends | {"type": "line", "layer": "below", "line": dash}
            )
    if not traces:
        return "No model has figures yet."
    values = [y for trace in traces for y in trace["y"]]
    axis: dict[str, Any] = {"tickformat": ".3f"}
    if min(values) == max(values):  # Plotly would show what is up to 1 away
        axis["range"] = [values[0] - 0.01, values[0] + 0.01]
    titles = (_EXPORTED if known_bytes else _KEPT, f"{split} {title}")
    return _figure(traces, 360, *titles, _log(traces, "x"), axis, shapes=lines)


def _steps(all_shown: Sequence[_Shown]) -> Any:
    traces: list[dict[str, Any]] = []
    estimate = "about {:,} kept, estimated, standard error {:,}"
    for shown in all_shown:
        for stage, curve in (shown.run.kept or {}).items():
            kind = _method_of(stage)
            color, label = shown.color(kind), _look(kind)[2]
            name = ": ".join((*shown.of, label))
            start = _hover(*shown.of, label)
            pairs = zip(curve["kept"], curve["errors"], strict=True)
            text = [
                (estimate if e else "{:,} kept").format(k, e) for k, e in pairs
            ]
            hover: dict[str, Any] = {"text": text}
            hover["hovertemplate"] = _template(start, "step %{x:,}: %{text}")
            line = {"color": color, "width": 2, "shape": "hv"}
            x, y = curve["steps"], curve["kept"]
            hover["showlegend"] = all(each["name"] != name for each in traces)
            traces.append(_trace(x, y, name, mode="lines", line=line, **hover))
            taken = [m for m in shown.run.models if m.kind == stage]
            taken = [m for m in taken if m.search_step is not None]
            texts = []
            for model in taken:
                step = f"step {model.search_step:,}: {model.kept:,} kept"
                ticket = f"ticket of {model.target:,}"
                texts.append(_hover(*shown.of, ticket, step))
            marker: dict[str, Any] = {"color": color, "symbol": "diamond"}
            # Where two end in the same place, both are to be seen.
            marker["size"] = 14 if stage == "search" else 9
            marker["line"] = {"color": _CARD, "width": 1.5}
            more = {"mode": "markers", "marker": marker, "showlegend": False}
            x, y = [m.search_step or 0 for m in taken], [m.kept for m in taken]
            if taken:
                traces.append(_trace(x, y, hovertext=texts) | more)
    axes = ({"tickformat": ",d", "rangemode": "tozero"}, _log(traces, "y"))
    title = "training steps of the search"
    return traces and _figure(traces, 340, title, _KEPT, *axes)


def _epochs(all_shown: Sequence[_Shown]) -> Any:
    traces: list[dict[str, Any]] = []
    for shown in all_shown:
        for stage in shown.run.stages:
            method, _, budget = stage.name.rpartition("-")
            retrained = bool(method) and budget.isdecimal()
            tried = _method_of(stage.name)
            kind = method if retrained and tried == stage.name else tried
            kind = "search" if kind == "budget" else kind
            searches = not retrained and kind == stage.name != "dense"
            label = _look(kind)[2] + ": search" * searches
            name = "".join(shown.of) or label
            hover = []
            for n, epoch in enumerate(stage.epochs):
                auc, logloss = figure(stage.auc[n]), figure(stage.logloss[n])
                lines = [*shown.of, f"{stage.name}, epoch {epoch:,}"]
                lines += [f"validation AUC {auc}, log-loss {logloss}"]
                lines += [f"training loss {figure(stage.loss[n])}"]
                hover.append(_hover(*lines, f"{stage.kept[n]:,} kept"))
            trace = _trace(stage.epochs, stage.auc, name, hovertext=hover)
            named = any(other["name"] == trace["name"] for other in traces)
            trace |= {"legendgroup": trace["name"], "showlegend": not named}
            color, dash = shown.color(kind), "dot" if searches else "solid"
            trace["line"] = {"color": color, "width": 1.5, "dash": dash}
            marker = {"color": color, "size": 5}
            traces.append(trace | {"mode": "lines+markers", "marker": marker})
    axes = ({"tickformat": ",d"}, {"tickformat": ".3f"})
    return traces and _figure(traces, 360, "epoch", "validation AUC", *axes)


def _bytes(all_shown: Sequence[_Shown]) -> Any:
    bars = []
    for shown in all_shown:
        for model in shown.run.models:
            name = "full table" if model.kind == "dense" else model.name
            hover = _hover(*shown.of, name, f"{model.bytes:,} bytes")
            size, color = size_of(shown.run, model), shown.color(model.kind)
            name = ": ".join((*shown.of, name))
            bars.append((name, model.bytes, size, color, hover))
    return bars and _bars(bars, "bytes of all weights", tickformat="~s")


def _frequency(all_shown: Sequence[_Shown]) -> dict[str, Choices]:
    """Sizes against counts: points by field, means by field and budget."""
    traces = []
    for shown in all_shown:
        drawn, fields = shown.features.drawn, shown.fields
        counts, names = drawn.get("count"), drawn.get("name", ())
        if counts is None:
            continue
        marker: dict[str, Any] = {"color": _color(shown.place)}
        if not shown.apart:  # a name in the legend, whatever is shown
            name = "".join(shown.of) or "a feature"
            nothing = _trace([None], [None], name, marker=marker)
            traces.append(nothing | {"mode": "markers"})
        template = _template(
            *(_hover(*shown.of), "%{text}", "%{x:,.0f} times in training"),
            "%{y:,.0f} entries kept",
        )
        # Up to 0.3 up or down, always the same for the same point.
        moved = [n * 0.618034 % 1 * 0.6 - 0.3 for n in range(len(names))]
        # Features of a field follow each other.
        for i, group in groupby(range(len(names)), drawn["field"].__getitem__):
            points = [*group]
            trace = _trace([counts[n] or _NEVER for n in points], [], fields[i])
            trace |= {"mode": "markers", "showlegend": shown.apart}
            trace["marker"] = {"color": shown.feature_color(i), "size": 6}
            trace["marker"]["opacity"] = 0.55
            trace["text"] = [_hover(f"{fields[i]}: {names[n]}") for n in points]
            trace["hovertemplate"] = template
            y: Choices = []
            for of, _, sizes in shown.budgets:
                found = [round(sizes[n] + moved[n], 2) for n in points]
                y.append(({"budget": of}, found))
            when = {"field": ["", shown.choices[i + 1]]}
            traces.append(trace | {"meta": {"when": when, "y": y}})
        template = _template(
            _hover(*shown.of),
            "%{customdata:,} features, about %{x:,.0f} times in training each",
            "%{y:.2f} entries kept on average",
        )
        look: dict[str, Any] = {"mode": "lines+markers"}
        look["hovertemplate"] = template
        look["line"] = {"color": _color(shown.place), "width": 2.5}
        if not shown.of:
            look["line"]["color"] = _INK
        look["marker"] = {"size": 7, "symbol": "diamond"}
        name = ": ".join((*shown.of, "mean" if shown.of else "mean of all"))
        for of, budget, _ in shown.budgets:
            trends = budget["trends"]
            for choice, trend in zip(shown.choices, trends, strict=True):
                when = {"budget": of, "field": [choice]}
                trace = _trace(trend["count"], trend["size"], name, **look)
                trace["customdata"] = trend["features"]
                trace["meta"] = {"when": when}
                traces += [trace] * bool(trend["count"])
    runs = all_shown[0].runs
    notes: Choices = []
    for choice in map(str, budget_choices(runs)):
        for field in ("", *map(str, range(len(field_choices(runs))))):
            note = " ".join(_note(shown, choice, field) for shown in all_shown)
            notes.append(({"budget": [choice], "field": [field]}, note))
    axes = (_log(traces, "x"), {"rangemode": "tozero"})
    title = "times a feature is in the training rows"
    drawing = _figure(traces, 440, title, _SIZE, *axes) if traces else ""
    return {
        "frequency": [({}, drawing)],
        "frequency-note": notes,
        "frequency-means": [({}, _MEANS if traces else "")],
    }


def _note(shown: _Shown, choice: str, field: str) -> str:
    """Say of a run which features are drawn."""
    features, name = shown.features, "".join(shown.of) or "The run"
    if features.drawn.get("count", ()) is None:
        return f"{name} has not noted how often training has each feature."
    if field not in shown.choices or not shown.budgets:
        return f"{name} has no such field, or no budget."
    target = next(b["target"] for of, b, _ in shown.budgets if choice in of)
    start = f"{name}, budget {target:,}: " if shown.of else ""
    found = features.drawn["field"]
    if field:
        count = found.count(shown.choices.index(field) - 1)
        return f"{start}{count:,} features of the field are drawn."
    text = f"{start}{len(found):,} of {features.count:,} features are drawn"
    if len(found) < features.count:
        text += ", frequent ones more densely"
    if unseen := features.unseen:
        verb = "are" if unseen > 1 else "is"
        text += ", and at the left those in no training row, of which there "
        text += f"{verb} {unseen:,}"
    return f"{text}."


def _top(shown: _Shown) -> dict[str, Choices]:
    """Features of a run that keep the most."""
    drawn, fields = shown.features.drawn, shown.fields
    tops: Choices = []
    titles: Choices = []
    for budgets, budget, sizes in shown.budgets:
        for choice, top in zip(shown.choices, budget["top"], strict=True):
            bars = []
            for n in top:
                field, name = drawn["field"][n], drawn["name"][n]
                size = sizes[n]
                lines = [*shown.of, f"{fields[field]}: {name}"]
                if drawn["count"]:
                    lines.append(f"{drawn['count'][n]:,} times in training")
                hover = _hover(*lines, f"{size:,} entries kept")
                name = name if choice else f"{name} ({fields[field]})"
                color = shown.feature_color(field)
                bars.append((name, size, f"{size:,}", color, hover))
            when = {"budget": budgets, "field": [choice]}
            nothing = "Nothing was kept of this field."
            tops.append((when, _bars(bars, _SIZE) if bars else nothing))
            title = f"{shown.run.name}, budget {budget['target']:,}"
            titles.append((when, title))
    if not shown.run.features:
        return {}
    return {f"top-{shown.place}": tops, f"top-title-{shown.place}": titles}


def _fields(all_shown: Sequence[_Shown]) -> dict[str, Choices]:
    """Mean sizes and shares of the fields, of each run."""
    runs = all_shown[0].runs
    found: dict[str, Choices] = {"field-size": [], "field-share": []}
    for choice in map(str, budget_choices(runs)):
        sizes: list[_Bar] = []
        shares: list[_Bar] = []
        chosen = []
        for place in map(str, range(len(field_choices(runs)))):
            for shown in all_shown:
                closest = [b for of, b, _ in shown.budgets if choice in of]
                if place not in shown.choices or not closest:
                    continue
                i = shown.choices.index(place) - 1
                kept, left = closest[0]["kept"], closest[0]["left"][i]
                features = shown.features.fields[i]["features"]
                rest = f"something is left of {left:,} of {features:,} features"
                size = kept[i] / max(1, features)
                share = kept[i] / max(1, sum(kept))
                name, color = shown.fields[i], shown.feature_color(i)
                title = ", ".join((name, *shown.of))
                chosen.append(place)
                for bars, value, text in (
                    (sizes, size, f"{size:,.2f}".rstrip("0").rstrip(".")),
                    (shares, share, f"{share:.1%}"),
                ):
                    lines = (name, f"{kept[i]:,} entries kept: {text}", rest)
                    hover = _hover(*shown.of, *lines)
                    bars.append((title, value, text, color, hover))
        when = {"budget": [choice]}
        found["field-size"].append((when, _bars(sizes, "entries", chosen)))
        drawing = _bars(shares, "share of the budget", chosen, ".0%")
        found["field-share"].append((when, drawing))
    return found


def _bars(
    bars: Iterable[_Bar],
    title: str,
    fields: Sequence[str] = (),
    tickformat: str = "",
) -> dict[str, Any]:
    """Bars from the top down.

    They are known by their places: names may be the same, or look like
    numbers. `fields` are the choices by which they are not faint.
    """
    names, values, texts, colors, hover = zip(*bars, strict=True)
    places = [*range(len(names))]
    trace = _trace(values, places, hovertext=hover)
    trace |= {"type": "bar", "orientation": "h"}
    trace |= {"text": [*map(_plain, texts)], "textposition": "outside"}
    trace |= {"textangle": 0, "cliponaxis": False, "marker": {"color": colors}}
    if fields:
        trace["meta"] = {"when": {}, "fields": fields}
    y: dict[str, Any] = {"tickvals": places, "autorange": "reversed"}
    y |= {"ticktext": [f"{_plain(cut(name, 40))} " for name in names]}
    y |= {"showgrid": False, "fixedrange": True}
    margin = {"t": 8, "r": 16, "b": 44, "l": 8}
    more = {"bargap": 0.25, "margin": margin}
    height, x = 24 * len(places) + 70, {"tickformat": tickformat}
    return _figure([trace], height, title, "", x, y, **more)


def _trace(
    x: Sequence[Any], y: Sequence[Any], name: str = "", **more: Any
) -> dict[str, Any]:
    return {"x": x, "y": y, "name": _plain(name), "hoverinfo": "text"} | more


def _figure(
    traces: list[dict[str, Any]],
    height: int,
    x_title: str,
    y_title: str,
    x: dict[str, Any],
    y: dict[str, Any],
    **more: Any,
) -> dict[str, Any]:
    axis: dict[str, Any] = {
        "gridcolor": _GRID,
        "linecolor": _LINE,
        "tickcolor": _LINE,
    }
    axis |= {"zeroline": False, "automargin": True}
    title = {"standoff": 8, "font": {"size": 13}}
    font = {"color": _INK, "size": 13}
    layout: dict[str, Any] = {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": font | {"family": "system-ui, sans-serif"},
        "hoverlabel": {"bgcolor": _PAGE, "bordercolor": _LINE, "font": font},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "showlegend": len(traces) > 1,
        "margin": {"t": 8, "r": 12, "b": 48, "l": 52},
        "hovermode": "closest",
        "height": height,
        "xaxis": axis | {"title": title | {"text": x_title}} | x,
        "yaxis": axis | {"title": title | {"text": y_title}} | y,
    }
    layout["hoverlabel"]["align"] = "left"
    layout["legend"]["font"] = {"size": 12}
    return {"data": traces, "layout": layout | more}


def _log(traces: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """A logarithmic axis: the more decades, the fewer ticks in each."""
    known = [max(v, _NEVER) for trace in traces for v in trace[name] if v]
    few = max(known, default=1) > 300 * min(known, default=1)
    firsts = (1,) if few else (1, 2, 5)
    ticks = [first * 10**power for power in range(13) for first in firsts]
    units = [(10**9, "G"), (10**6, "M"), (1000, "k"), (1, "")]
    names = [
        next(f"{tick // of}{unit}" for of, unit in units if tick >= of)
        for tick in ticks
    ]
    return {"type": "log", "tickvals": ticks, "ticktext": names}


def _method_of(stage: str) -> str:
    """The method of a stage that tries a candidate, else its own name."""
    found = _CANDIDATE.fullmatch(stage)
    if found is None:
        return stage
    return found[2] + "-search" * (found[1] == "search")


def _look(kind: str) -> tuple[str, str, str]:
    return _LOOKS.get(kind, (_COLORS[5], "circle", kind))


def _color(place: int) -> str:
    return _COLORS[place % len(_COLORS)]


def _plain(text: str) -> str:
    """Text that Plotly shows as it is."""
    return escape(text, quote=False)


def _hover(*lines: str) -> str:
    return "<br>".join(_plain(cut(line, 60)) for line in lines)


def _template(start: str, *lines: str) -> str:
    """Hovered text with Plotly's `%{x}` in its lines, but not in its start."""
    start = start.replace("%", "&#37;")
    return "<br>".join([start] * bool(start) + [*lines]) + "<extra></extra>"
