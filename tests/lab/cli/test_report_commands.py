import pytest

from keras_pep.lab.run import RunDirectory
from tests.lab.cli.test_cli import invoke
from tests.runs import change, unfinish, write_run


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run")


def test_report_writes_a_page(run, tmp_path):
    result = invoke("report", run)
    assert result.exit_code == 0, result.output
    assert result.output == f"report: {run / 'report.html'}\n"
    assert (run / "report.html").read_text().startswith("<!doctype html>")
    path = tmp_path / "page.html"
    result = invoke("report", run, "--output", path)
    assert result.output == f"report: {path}\n"
    assert path.read_bytes() == (run / "report.html").read_bytes()


def test_compare_prints_a_table_and_writes_a_page(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = write_run(tmp_path / "other", gain=0.01)
    result = invoke("compare", run, other)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].split()[:2] == ["run", "model"]
    names = [line.split()[0] for line in lines[1:11]]
    assert names == ["run"] * 5 + ["other"] * 5
    assert lines[-1] == "comparison: compare.html"
    assert "2 runs compared" in (tmp_path / "compare.html").read_text()
    result = invoke("compare", run, other, "--quiet", "--output", "two.html")
    assert result.output.splitlines() == lines[:11]
    assert (tmp_path / "two.html").exists()


def test_an_unfinished_run_says_how_far_it_is(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    unfinish(run)
    result = invoke("report", "run")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split()[:2] == ["stage", "epochs"]
    names = [line.split()[0] for line in lines[1:5]]
    assert names == ["dense", "search", "budget-60", "budget-20"]
    assert lines[5:] == ["", "report: run/report.html"]
    assert result.stderr == (
        "run is unfinished. Finished stages: dense, search, budget-60. "
        "budget-20 has 3 epochs so far. No process is training it. Continue "
        "with: keras-pep train --resume run\n"
    )
    quiet = invoke("report", "run", "--quiet")
    assert quiet.stdout == "report: run/report.html\n"
    assert quiet.stderr == result.stderr

    with RunDirectory(run).lock():  # as training it does
        result = invoke("report", "run")
        assert result.exit_code == 0
        assert result.stderr.endswith(
            "A process is training it. If it is interrupted, continue with: "
            "keras-pep train --resume run\n"
        )

    other = write_run(tmp_path / "other", gain=0.01)
    result = invoke("compare", run, other)
    names = [line.split()[0] for line in result.stdout.splitlines()[1:8]]
    assert names == ["run"] * 2 + ["other"] * 5
    assert result.stderr.startswith("run is unfinished.")


def test_one_run_is_nothing_to_compare(run):
    result = invoke("compare", run)
    assert result.exit_code == 2
    assert "found 1 run, expected at least two" in result.output
    assert invoke("compare").exit_code == 2


@pytest.mark.parametrize("command", ["report", "compare"])
def test_errors_are_one_line(run, tmp_path, command):
    other = write_run(tmp_path / "other")
    more = [run] * (command == "compare")
    for damage, message in (
        (lambda: change(other / "metrics.json", rows=3), "is damaged"),
        (lambda: (other / "config.json").unlink(), "not a run directory"),
        (lambda: None, "did not get so far"),
    ):
        damage()
        output = tmp_path / "page.html"
        result = invoke(command, *more, other, "--output", output)
        assert result.exit_code == 1
        assert len(result.output.splitlines()) == 1
        assert message in result.output
        assert not output.exists()
