"""The notebooks run, cell by cell, and are committed without outputs."""

import json
import shlex

import pytest

from keras_pep.data import synthetic
from tests.few_rows import with_fewer_epochs
from tests.test_docs import ROOT

FOLDER = ROOT / "docs" / "notebooks"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))


def cells(name):
    found = json.loads((FOLDER / f"{name}.ipynb").read_text())["cells"]
    return [cell for cell in found if cell["cell_type"] == "code"]


def run(name):
    """Run the code; a line with `!` is a command of `keras-pep`."""
    from click.testing import CliRunner

    from keras_pep.lab.cli import main

    names = {}
    for cell in cells(name):
        source = "".join(cell["source"])
        if source.startswith("!"):
            for line in source.replace("\\\n", " ").splitlines():
                program, *arguments = shlex.split(line)
                assert program == "!keras-pep"
                done = CliRunner().invoke(main, arguments)
                assert done.exit_code == 0, done.output
        else:
            code = with_fewer_epochs(source)
            exec(compile(code, f"{name}.ipynb", "exec"), names)
    return names


@pytest.fixture(autouse=True)
def few_rows(tmp_path, monkeypatch):
    generate = synthetic.generate
    monkeypatch.setattr(
        synthetic, "generate", lambda seed: generate(seed, 6_000)
    )
    monkeypatch.chdir(tmp_path)


def test_there_are_three_on_the_site():
    page = (ROOT / "docs" / "notebooks.md").read_text()
    assert NOTEBOOKS == ["csv_to_serving", "movielens", "my_model"]
    assert all(f"notebooks/{name}.ipynb" in page for name in NOTEBOOKS)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_committed_without_outputs(name):
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 10_000
    for cell in cells(name):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


@pytest.mark.slow
@pytest.mark.requires_tensorflow
def test_movielens_in_ten_minutes():
    names = run("movielens")
    table = names["chosen"].embedding
    entries = sum(names["data"].field_sizes) * 16
    assert 0.24 * entries <= table.nonzero_parameters() <= 0.25 * entries


@pytest.mark.slow
@pytest.mark.requires_tensorflow
def test_prune_your_own_keras_model(tmp_path):
    names = run("my_model")
    kept = [
        sum(
            model.get_layer(name).nonzero_parameters()
            for name in ("users", "items")
        )
        for model in (names["small"], names["smallest"])
    ]
    assert 9_500 <= kept[0] <= 9_600
    assert 9_500 <= kept[1] <= 9_600
    dense, small = (
        (tmp_path / f"{name}.keras").stat().st_size
        for name in ("dense", "small")
    )
    assert small < 0.5 * dense


@pytest.mark.slow
@pytest.mark.requires_tensorflow
def test_from_csv_to_tensorflow_serving(tmp_path):
    names = run("csv_to_serving")
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 101
    assert names["answer"]["probability"].shape == (2,)
    assert (tmp_path / "runs" / "clicks" / "report.html").exists()
