import re
from pathlib import Path

import pytest

import keras_pep
from keras_pep.data import synthetic

README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    """As written, on fewer rows."""
    section = README.partition("## In Python")[2].partition("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 3
    assert all(len(block.splitlines()) <= 20 for block in blocks)
    generate = synthetic.generate
    monkeypatch.setattr(
        synthetic, "generate", lambda seed: generate(seed, 9000)
    )
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks:  # each goes on where the one before has ended
        exec(compile(block, "README.md", "exec"), names)
        assert Path("small.keras").exists()
        Path("small.keras").unlink()
    assert 8_990 <= names["retraining"].ticket.embedding_parameters <= 9_000
    assert names["small"].embedding.layout.bytes <= 30_000
    printed = capsys.readouterr().out
    assert re.match(r"kept [89],\d{3} of 64 x 1,427: AUC 0\.\d{4}\n", printed)


def test_the_glossary_names_every_granularity():
    for name in keras_pep.thresholds.GRANULARITIES:
        assert f"`{name}`" in README
