import json
import os
import re
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import plotly.io
import pytest

from keras_pep.data.fields import Field, Vocabulary
from keras_pep.lab.report import read_runs, write_page, write_report
from keras_pep.lab.report.page import page
from keras_pep.lab.run import RunDirectory, RunError
from tests.runs import HOSTILE, change, vocabularies, write_run


class Parsed(HTMLParser):
    """The page as a browser understands it: its tags, and the JSON in it."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words = [], [], []
        self._json, self._inside = [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self._inside = (tag, dict(attributes).get("id"))

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, text):
        if self._inside == ("script", "data"):
            self._json.append(text)
        elif self._inside is None or self._inside[0] not in ("script", "style"):
            self.words.append(text)

    @property
    def charts(self):
        return json.loads("".join(self._json))

    def figure(self, name, **chosen):
        """The figure that the page draws for a choice, as Plotly reads it."""
        return plotly.io.from_json(
            json.dumps(picked(self.charts[name], **chosen))
        )


def picked(choices, **chosen):
    """Return what the page shows for these choices in its selects."""
    (found,) = [
        content
        for when, content in choices
        if all(chosen[name] in values for name, values in when.items())
    ]
    return found


def cut(name, longest=40):
    end = longest // 4
    if len(name) <= longest:
        return name
    return f"{name[: longest - end - 1]}…{name[-end:]}"


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run")


@pytest.fixture
def parsed(run):
    return Parsed(page(read_runs([run])))


def test_figures_are_those_of_the_metrics(run, parsed):
    metrics = json.loads((run / "metrics.json").read_text())
    known = [metrics["dense"], *metrics["budgets"], *metrics["baselines"]]
    for split in ("test", "validation"):
        for name in ("auc", "logloss"):
            dense, searched, magnitude = parsed.figure(name, split=split).data
            assert dense.y == (metrics["dense"][split][name],)
            for trace, entries in (
                (searched, metrics["budgets"]),
                (magnitude, metrics["baselines"]),
            ):
                assert trace.x == (75, 155)  # bytes, exported in int8
                assert trace.y == tuple(e[split][name] for e in entries[::-1])
    assert parsed.figure("auc", split="test").data[1].hovertext[0] == (
        "20<br>20 kept, 92.9% pruned<br>"
        "AUC 0.7401 (\N{MINUS SIGN}0.0099 to the full table)<br>"
        "240 B, 6.4\N{MULTIPLICATION SIGN} smaller"
    )
    search, tickets, *_ = parsed.figure("steps").data
    assert (search.x, search.y) == ((8, 400, 600), (280, 90, 20))
    assert search.text == (
        *("280 kept", "about 90 kept, estimated, standard error 7"),
        "20 kept",
    )
    assert (tickets.x, tickets.y) == ((600, 200), (60, 20))
    stages = parsed.figure("epochs").data
    assert len(stages) == 7
    for stage in stages:
        assert (stage.x, stage.y) == ((1, 2, 3), (0.7, 0.75, 0.74))
    assert [stage.name for stage in stages if stage.showlegend] == [
        *("full table", "keras-pep: search", "keras-pep"),
        *("magnitude: search", "magnitude"),
    ]
    (bars,) = parsed.figure("bytes").data
    assert bars.x == tuple(entry["bytes"] for entry in known)
    # 1,540 bytes, 440 and 240.
    smaller = ("440 B, 3.5× smaller", "240 B, 6.4× smaller")  # noqa: RUF001
    assert bars.text == ("1.54 kB", *smaller, *smaller)
    words = "\n".join(parsed.words)
    for entry in known:
        assert f"{entry['test']['auc']:.4f}" in words
        assert f"{entry['bytes']:,}" in words


def test_names_are_text_wherever_they_are(parsed, tmp_path):
    points = parsed.figure("frequency").data[0]
    assert points.text[1:4] == tuple(
        f"user: {escape(name, quote=False)}" for name in HOSTILE[:3]
    )
    assert points.text[4] == "user: &lt;!-- \ufffd --&gt;"
    top = parsed.figure("top-0", budget="60", field="0")
    for name in HOSTILE[:2]:
        shown = escape(cut(name), quote=False)
        assert f"{shown} " in top.layout.yaxis.ticktext
    # Data, Plotly, figures; and none of a name.
    assert parsed.tags.count("script") == 3
    assert not {"img", "i"} & {*parsed.tags}
    assert "<i>clicks</i>" in "".join(parsed.words)
    words = "".join(parsed.words)
    assert "keras-pep train --dataset 'a <b> & c.csv'" in words
    assert not any(name.startswith("on") for name, _ in parsed.attributes)
    assert not any(name in ("src", "href") for name, _ in parsed.attributes)

    fields = {
        HOSTILE[1]: vocabularies()["user"],
        "'\"<": vocabularies()["user"],
    }
    other = write_run(tmp_path / "other", fields=fields)
    again = Parsed(page(read_runs([other])))
    assert again.tags.count("script") == 3
    assert "img" not in again.tags
    assert HOSTILE[1] in again.words


def test_json_ends_no_script(run):
    text = page(read_runs([run]))
    data = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1]
    assert not set("<>&\u2028\u2029") & set(data)
    assert len(json.loads(data)["auc"]) == 2


def test_nothing_but_its_own_scripts_may_run(parsed):
    (policy,) = [v for _, v in parsed.attributes if v and "script-src" in v]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert re.fullmatch(r"('sha256-[\w+/]+=' ?){2}", rules["script-src"])
    assert rules["img-src"] == "data: blob:"


def test_a_million_features_make_a_page_of_some_megabytes(tmp_path):
    names = np.array([f"user {n}" for n in range(10**6)], object)
    fields = {"user": Vocabulary(Field("user", "user"), names)}
    run = write_run(tmp_path / "run", fields=fields)
    path = write_report(run)
    assert path == run / "report.html"
    assert path.stat().st_size < 6_000_000  # of which Plotly takes 4.8
    parsed = Parsed(path.read_text())
    (note,) = {text for _, text in parsed.charts["frequency-note"][::2]}
    assert " of 1,000,000 features are drawn" in note
    assert len(parsed.figure("frequency").data[0].x) < 3100


def test_a_run_of_before_has_a_page_too(run):
    for name in ("counts.npy", "kept.csv", "vocabularies.json"):
        (run / name).unlink()
    change(run / "config.json", command=None)
    parsed = Parsed(page(read_runs([run])))
    assert "not noted what was kept" in picked(parsed.charts["steps"])
    assert not {"frequency", "top-0", "field-size"} & {*parsed.charts}
    assert "not noted which features there are" in "".join(parsed.words)
    assert "The run has not noted its command." in parsed.words


def test_pages_appear_whole_or_not_at_all(run, tmp_path):
    with pytest.raises(
        RunError, match=r"nowhere/report\.html cannot be written"
    ):
        write_report(run, tmp_path / "nowhere" / "report.html")
    path = tmp_path / "page.html"
    path.write_text("mine")
    (run / "metrics.json").write_text("{}")
    with pytest.raises(RunError):
        write_report(run, path)
    assert path.read_text() == "mine"


def test_what_a_killed_process_has_left_is_removed(run):
    remains = run / ".partial-1-report.html"
    other = run / ".partial-1-dense.keras"  # for the run to remove
    for path in (remains, other):
        path.write_text("half")
    write_report(run)
    assert {*run.glob(".*")} == {other}


def test_a_page_is_locked_while_it_is_written(run, monkeypatch):
    """The run, which removes what was left, leaves it alone."""
    found = []
    write_text = Path.write_text

    def watched(path, *args, **kwargs):
        result = write_text(path, *args, **kwargs)
        RunDirectory(run).remove_partial_files()
        found.append((path.name, path.exists()))
        return result

    monkeypatch.setattr(Path, "write_text", watched)
    write_report(run)
    assert found == [(f".partial-{os.getpid()}-report.html", True)]


def test_several_runs_have_a_table_each(run, tmp_path):
    other = write_run(tmp_path / "other", baselines=False)
    path = tmp_path / "compare.html"
    write_page(read_runs([run, other]), path)
    parsed = Parsed(path.read_text())
    names = [trace.name for trace in parsed.figure("auc", split="test").data]
    assert names == [
        *("run: full table", "run: keras-pep", "run: magnitude"),
        *("other: full table", "other: keras-pep"),
    ]
    assert len(parsed.figure("bytes").data[0].x) == 5 + 3
    assert "2 runs compared" in parsed.words
    # Models, stages and fields.
    assert parsed.tags.count("table") == 2 + 2 + 2


def test_plotly_knows_every_figure(run, tmp_path):
    other = write_run(tmp_path / "other", budgets=(50, 25), gain=0.01)
    for runs in ([run], [run, other]):
        parsed = Parsed(page(read_runs(runs)))
        for choices in parsed.charts.values():
            for _, content in choices:
                if isinstance(content, dict):  # else a text
                    plotly.io.from_json(json.dumps(content))
        ids = {value for name, value in parsed.attributes if name == "id"}
        assert {*parsed.charts} < ids


def test_a_field_and_a_budget_are_chosen(run, parsed):
    features = read_runs([run])[0].features
    points = parsed.figure("frequency").data
    assert [trace.name for trace in points[:2]] == ["user", "price"]
    assert [len(trace.x) for trace in points[:2]] == [31, 4]
    assert points[1].meta["when"] == {"field": ["", "1"]}
    assert points[1].x[-1] == 0.4  # of the feature that is in no row
    for budget, place in (("60", 0), ("20", 1)):
        chosen = {"budget": budget, "field": "0"}
        of, sizes = features.budgets[place], features.drawn["sizes"][place]
        y = [y for t in points[:2] for y in picked(t.meta["y"], **chosen)]
        assert [round(value) for value in y] == sizes
        trends = [
            trace.y
            for trace in points[2:]
            if trace.meta["when"]["budget"] == [budget]
        ]
        assert trends == [tuple(trend["size"]) for trend in of["trends"]]
        (bars,) = parsed.figure("field-share", **chosen).data
        assert bars.x == pytest.approx(
            [k / sum(of["kept"]) for k in of["kept"]]
        )
        assert bars.meta["fields"] == ["0", "1"]
        (bars,) = parsed.figure("field-size", **chosen).data
        assert bars.x == pytest.approx([of["kept"][0] / 31, of["kept"][1] / 4])
        for field in ("", "0", "1"):
            chosen["field"] = field
            (bars,) = parsed.figure("top-0", **chosen).data
            top = of["top"][int(field or -1) + 1]
            assert bars.x == tuple(sizes[i] for i in top)
            note = picked(parsed.charts["frequency-note"], **chosen)
            count = {"": "35 of 35 features", "0": "31 features of the field"}
            assert count.get(field, "4 features of the field") in note
    for text in bars.hovertext:
        assert text.startswith("price: ")
    options = [v for n, v in parsed.attributes if n == "value"]
    assert options == ["test", "validation", "60", "20", "", "0", "1"]


def test_fields_whose_names_are_cut_are_chosen_one_by_one(tmp_path):
    alike = [f"{'x' * 79}{middle}{'y' * 79}" for middle in "ab"]
    fields = dict(zip(alike, vocabularies().values(), strict=True))
    run = write_run(tmp_path / "run", fields=fields)
    other = write_run(tmp_path / "other", fields=dict([*fields.items()][::-1]))
    for runs in ([run], [run, other]):
        parsed = Parsed(page(read_runs(runs)))
        assert parsed.words.count("x" * 59 + "…" + "y" * 20) >= 2
        for field, features in (("0", 31), ("1", 4)):
            note = picked(
                parsed.charts["frequency-note"], budget="20", field=field
            )
            assert note.count(f"{features} features of the field") == len(runs)
            for place in range(len(runs)):
                chosen = {"budget": "20", "field": field}
                (bars,) = parsed.figure(f"top-{place}", **chosen).data
                prices = sum("1.5 to 20" in text for text in bars.hovertext)
                assert prices == (field == "1")
        (bars,) = parsed.figure("field-size", budget="20").data
        assert len(bars.x) == 2 * len(runs)


def test_runs_of_other_budgets_are_compared_by_the_closest(run, tmp_path):
    other = write_run(tmp_path / "<b>other", budgets=(50, 25))
    parsed = Parsed(page(read_runs([run, other])))
    for budget, shown in (("60", (60, 50)), ("25", (20, 25))):
        titles = [
            picked(parsed.charts[f"top-title-{n}"], budget=budget, field="")
            for n in range(2)
        ]
        assert titles == [
            f"run, budget {shown[0]}",
            f"<b>other, budget {shown[1]}",
        ]
        (bars,) = parsed.figure("field-share", budget=budget).data
        assert "user, &lt;b&gt;other " in bars.parent.layout.yaxis.ticktext
        kept = [
            float(text.split("<br>")[2].split()[0]) for text in bars.hovertext
        ]
        assert (sum(kept[::2]), sum(kept[1::2])) == shown
    dense = parsed.figure("auc", split="test").data[3]
    assert dense.name == "&lt;b&gt;other: full table"


def test_a_page_without_results_says_so(run):
    for path in run.iterdir():
        if path.name != "config.json":
            path.unlink()
    parsed = Parsed(page(read_runs([run])))
    assert {
        name: picked(c, split="test") for name, c in parsed.charts.items()
    } == {
        "auc": "No model has figures yet.",
        "logloss": "No model has figures yet.",
        "steps": "The search has not got so far yet.",
        "epochs": "No epoch is over yet.",
        "bytes": "Nothing is known yet.",
    }
    assert "The search is not over yet." in parsed.words


def test_runs_without_counts_say_so(run):
    (run / "counts.npy").unlink()
    parsed = Parsed(page(read_runs([run])))
    assert picked(parsed.charts["frequency"]) == ""
    assert picked(parsed.charts["frequency-means"]) == ""
    chosen = {"budget": "20", "field": ""}
    note = picked(parsed.charts["frequency-note"], **chosen)
    assert note == (
        "The run has not noted how often training has each feature."
    )
    assert len(parsed.figure("top-0", **chosen).data[0].x) > 0
