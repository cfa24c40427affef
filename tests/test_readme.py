import re
from pathlib import Path

import keras_pep
from keras_pep.data import synthetic

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    """As written, on fewer rows."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code.splitlines()) <= 20
    generate = synthetic.generate
    monkeypatch.setattr(
        synthetic, "generate", lambda seed: generate(seed, 9000)
    )
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert re.fullmatch(
        r"kept [89],\d{3} of 64 x 1,427: AUC 0\.\d{4}\n", printed
    )
    assert (tmp_path / "small.keras").exists()


def test_the_glossary_names_every_granularity():
    for name in keras_pep.thresholds.GRANULARITIES:
        assert f"`{name}`" in README
