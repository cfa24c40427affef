"""Every public name has an example in its docstring, and every example runs.

An example may use what its reader has: `model`, a compiled FM; `dense`, one
without thresholds; `train` and `validation`, arrays of ids and labels; and a
model that is exported, in `saved_models/exported/1`.
"""

import importlib
import inspect
import re
import shutil
import textwrap
import types
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_pep
from keras_pep.data import synthetic
from tests.few_rows import with_fewer_epochs
from tests.test_docs import ROOT

PACKAGES = [
    *("keras_pep", "keras_pep.callbacks", "keras_pep.data"),
    *("keras_pep.distribution", "keras_pep.layers", "keras_pep.metrics"),
    *("keras_pep.models", "keras_pep.optimizers", "keras_pep.pruning"),
    *("keras_pep.serving", "keras_pep.tfrs"),
]
# Take what other functions of their package return, or an environment of
# several devices, which `tests/distribution` has.
NO_EXAMPLE = {"check_fields", "field_rows", "field_sizes", "table_sizes"}
NOT_RUN_HERE = {"RowParallel"}


def public():
    found = {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            constant = isinstance(value, (types.ModuleType, tuple, str, dict))
            if not (constant or name.endswith("Mixin")):
                # Of twins, in Keras 3 and in `tf_keras`, the first.
                found.setdefault(name, value)
    return found


def example(value):
    doc = inspect.getdoc(value) or ""
    _, _, section = doc.partition("Example:\n")
    return textwrap.dedent(
        "".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))
    )


def fm(embedding):
    model = keras_pep.models.FM([4_000, 4_000], 16, embedding=embedding)
    model.compile(
        keras_pep.optimizers.AdamL2(1e-2),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return model


@pytest.mark.requires_tensorflow
def test_every_public_name_has_an_example():
    names = {name for name, value in public().items() if not example(value)}
    assert names == NO_EXAMPLE


@pytest.mark.requires_tensorflow
def test_every_public_name_is_in_the_reference():
    page = (ROOT / "docs" / "reference.md").read_text()
    named = set(re.findall(r"^::: (\S+)$", page, re.M))
    assert {*PACKAGES} - named == {"keras_pep"}
    for name in keras_pep.__all__:
        value = getattr(keras_pep, name)
        module = getattr(value, "__module__", value.__name__)
        assert any(module.startswith(package) for package in named), name


@pytest.mark.slow
@pytest.mark.requires_tensorflow
def test_every_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        synthetic, "generate", partial(synthetic.generate, rows=6_000)
    )
    random = np.random.default_rng(0)
    ids = random.integers(0, 4_000, (512, 2), "int32")
    labels = (ids.sum(axis=1, keepdims=True) % 2).astype("float32")
    failed = {}
    keras_pep.export_saved_model(fm("pep"), tmp_path / "exported" / "1")
    for name, value in public().items():
        if name in NO_EXAMPLE | NOT_RUN_HERE:
            continue
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        code = with_fewer_epochs(example(value))
        names = {
            **{"keras": keras, "keras_pep": keras_pep, "np": np, "Path": Path},
            **{"train": (ids, labels), "validation": (ids, labels)},
        }
        if re.search(r"\bmodel\b", code):
            names["model"] = fm("pep")
        if "saved_models/exported" in code:
            shutil.copytree(tmp_path / "exported", "saved_models/exported")
        if re.search(r"\bdense\b|trained.keras", code):
            names["dense"] = fm("dense")
            names["dense"].fit(ids, labels, verbose=0)
            names["dense"].save("trained.keras")
        try:
            exec(compile(code, name, "exec"), names)
        except Exception as error:  # all of them at once, by name
            failed[name] = f"{error!r:.300}"
    capsys.readouterr()
    assert not failed, "\n".join(f"{n}: {e}" for n, e in failed.items())
