import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
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
    def runs(self):
        return json.loads("".join(self._json))["runs"]


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run")


@pytest.fixture
def parsed(run):
    return Parsed(page(read_runs([run])))


def test_figures_are_those_of_the_metrics(run, parsed):
    metrics = json.loads((run / "metrics.json").read_text())
    known = [metrics["dense"], *metrics["budgets"], *metrics["baselines"]]
    (content,) = parsed.runs
    for model, entry in zip(content["models"], known, strict=True):
        assert model["kept"] == entry["embedding_parameters"]
        assert model["bytes"] == entry["bytes"]
        assert model["search_step"] == entry.get("search_step")
        for split in ("test", "validation"):
            assert model["figures"][split] == entry[split]
    assert content["kept"]["search"] == {
        "steps": [8, 400, 600],
        "kept": [280, 90, 20],
        "errors": [0, 7, 0],
    }
    words = "\n".join(parsed.words)
    for entry in known:
        assert f"{entry['test']['auc']:.4f}" in words
        assert f"{entry['bytes']:,}" in words


def test_names_are_text_wherever_they_are(parsed, tmp_path):
    (content,) = parsed.runs
    names = content["features"]["drawn"]["name"]
    assert names[1:4] == HOSTILE[:3]
    assert names[4] == "<!-- \ufffd -->"
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
    assert len(json.loads(data)["runs"]) == 1


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
    (content,) = Parsed(path.read_text()).runs
    assert content["features"]["count"] == 10**6
    assert len(content["features"]["drawn"]["name"]) < 3100


def test_a_run_of_before_has_a_page_too(run):
    for name in ("counts.npy", "kept.csv", "vocabularies.json"):
        (run / name).unlink()
    change(run / "config.json", command=None)
    parsed = Parsed(page(read_runs([run])))
    assert parsed.runs[0]["kept"] is None
    assert parsed.runs[0]["features"] is None
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
    assert [r["name"] for r in parsed.runs] == ["run", "other"]
    assert "2 runs compared" in parsed.words
    # Models, stages and fields.
    assert parsed.tags.count("table") == 2 + 2 + 2
