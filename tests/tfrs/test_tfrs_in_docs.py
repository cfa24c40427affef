import re
from pathlib import Path

import pytest

import keras_pep
from tests.few_rows import have_rows

PAGE = (Path(__file__).parents[2] / "docs" / "model.md").read_text()


@pytest.mark.slow
def test_the_section_on_tfrs_runs(tmp_path, monkeypatch, capsys):
    """As written, on fewer rows; it has at most 30 lines."""
    title = "## TensorFlow Recommenders\n"
    section = PAGE.partition(title)[2].partition("\n## ")[0]
    assert len(section.splitlines()) < 30
    (block,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    have_rows(monkeypatch, 9000)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(block, "model.md", "exec"), names)
    kept = names["retraining"].ticket.embedding_parameters
    assert 8_990 <= kept <= 9_000
    assert names["retraining"].best > 0.6
    made = keras_pep.serving.describe(Path("saved_models/tfrs/1"))
    assert set(made.signatures) == {"serving_default", "ids"}
    assert "Epoch 1/40" in capsys.readouterr().out
