"""The front page and the site: their length, code, links and English."""

import ast
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

import keras_pep
from tests.few_rows import have_rows, with_fewer_epochs

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = sorted((ROOT / "docs").glob("*.md"))
# Several devices or processes, or TFRS: run by tests of their own.
ELSEWHERE = {"scaling.md"}
SOURCES = [
    path
    for folder in ("keras_pep", "apps", "benchmarks", "docs")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def blocks(text, language="python"):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def few_rows(tmp_path, monkeypatch):
    have_rows(monkeypatch, 9000)
    monkeypatch.chdir(tmp_path)


def test_the_readme_is_short():
    """At most 900 words, code included."""
    assert len(README.split()) <= 900


@pytest.mark.slow
@pytest.mark.requires_tensorflow
@pytest.mark.usefixtures("few_rows")
def test_the_python_of_the_readme_runs(capsys):
    """As written, on fewer rows, for fewer epochs."""
    names = {}
    for block in blocks(README):  # each goes on where the one before ended
        exec(compile(with_fewer_epochs(block), "README.md", "exec"), names)
        assert Path("small.keras").exists()
        Path("small.keras").unlink()
    assert Path("saved_models/small/1/saved_model.pb").exists()
    printed = capsys.readouterr().out
    assert "kept 3,000 of 16,000 entries" in printed
    assert 8_990 <= names["retraining"].ticket.embedding_parameters <= 9_000


@pytest.mark.slow
@pytest.mark.requires_tensorflow
@pytest.mark.usefixtures("few_rows")
def test_the_python_of_the_quickstart_runs(capsys):
    """As written, on fewer rows, for fewer epochs."""
    found = blocks((ROOT / "docs" / "quickstart.md").read_text())
    assert len(found) == 3
    assert all(len(block.splitlines()) <= 20 for block in found)
    names = {}
    for block in found:
        exec(compile(with_fewer_epochs(block), "quickstart.md", "exec"), names)
        assert Path("small.keras").exists()
        Path("small.keras").unlink()
    assert 8_990 <= names["retraining"].ticket.embedding_parameters <= 9_000
    assert names["small"].embedding.layout.bytes <= 30_000
    printed = capsys.readouterr().out
    assert re.match(r"kept [89],\d{3} of 64 x 1,427: AUC 0\.\d{4}\n", printed)


def test_every_page_with_python_is_run():
    """A new page is added to a test here, or to those that run elsewhere."""
    with_python = {page.name for page in PAGES if blocks(page.read_text())}
    found = {"model.md", "quickstart.md", "rivals.md", *ELSEWHERE}
    assert with_python == found


def test_the_glossary_names_every_granularity():
    glossary = (ROOT / "docs" / "concepts.md").read_text()
    for name in keras_pep.thresholds.GRANULARITIES:
        assert f"`{name}`" in glossary


@pytest.mark.parametrize(
    "page",
    [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"],
    ids=lambda path: path.name,
)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), f"{page.name}: {target}"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", path.read_text(), re.M)
            slugs = {re.sub(r"[^\w -]", "", t.lower()) for t in titles}
            assert anchor in {slug.replace(" ", "-") for slug in slugs}


def test_every_option_of_the_readme_exists():
    """Shell blocks train for minutes: their options are looked up."""
    click = pytest.importorskip("click")
    from keras_pep.lab.cli import main

    assert isinstance(main, click.Group)
    found = 0
    for page in [*PAGES, ROOT / "README.md"]:
        for block in blocks(page.read_text(), "console"):
            lines = block.replace("\\\n", " ").splitlines()
            for line in lines:
                if not line.startswith("$ keras-pep "):
                    continue
                words = line.split("#")[0].split()[2:]
                command = main.get_command(click.Context(main), words[0])
                assert command, line
                known = {o for p in command.params for o in p.opts}
                known |= {o for p in command.params for o in p.secondary_opts}
                if "--" in words:  # options of another program follow
                    words = words[: words.index("--")]
                given = {w.split("=")[0] for w in words if w[:2] == "--"}
                assert given <= known, (page.name, line)
                found += 1
    assert found > 15


def docstrings():
    kinds = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, kinds) and (text := ast.get_docstring(node)):
                line = getattr(node, "lineno", 1)
                yield f"{path.relative_to(ROOT)}:{line}", text


def test_docstrings_begin_with_what_a_thing_is_or_does():
    """No relative clause or genitive in the place of a name."""
    forbidden = re.compile(r"(What|Of|That|Those|Whose|Who)\b")
    bad = [where for where, text in docstrings() if forbidden.match(text)]
    assert not bad, bad


def test_no_foreign_idiom():
    """Phrases that were translated word for word."""
    idiom = re.compile(
        r"learns? by heart|has begun with|tabulator|of a noisier hour", re.I
    )
    texts = {str(p): p.read_text() for p in [*PAGES, ROOT / "README.md"]}
    bad = [w for w, t in [*docstrings(), *texts.items()] if idiom.search(t)]
    assert not bad, bad


def test_the_figure_has_every_method_and_point(tmp_path):
    """Drawn from a run of two sizes and one baseline."""
    click_testing = pytest.importorskip("click.testing")
    from docs.figure import curves, main

    def model(size, auc, **more):
        return {
            **{"exported_bytes": {"int8": {"table": size}}, **more},
            "test": {"auc": auc},
        }

    metrics = {
        "dataset": "clicks <1>",
        "dense": model(4_000, 0.8),
        "budgets": [model(2_000, 0.81), model(1_000, 0.79)],
        "baselines": [model(1_500, 0.7, method="uniform")],
    }
    assert curves(metrics) == {
        "dense": [(4.0, 0.8)],
        "keras-pep": [(1.0, 0.79), (2.0, 0.81)],
        "uniform": [(1.5, 0.7)],
    }
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    out = tmp_path / "figure.svg"
    done = click_testing.CliRunner().invoke(
        main, [str(tmp_path), "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    root = ElementTree.parse(out).getroot()
    circles = root.findall("{http://www.w3.org/2000/svg}circle")
    assert len(circles) == 3
    # 1 kB is a quarter of the way from the left edge to the dense table.
    assert circles[0].get("cx") == "231.0"
