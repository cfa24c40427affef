"""Tuned numbers are in one table, each with its source."""

import ast
from pathlib import Path

import pytest

from keras_pep.lab import presets, settings
from keras_pep.lab.presets import PRESETS, preset
from keras_pep.lab.run import config


def test_each_has_a_source_and_a_name_of_its_own():
    names = [each.name for each in PRESETS]
    assert len({*names}) == len(names)
    assert all(each.source for each in PRESETS)
    log = Path(presets.__file__).parents[2] / "apps/reproduce/LOG.md"
    assert any(str(each.source).startswith(presets._LOG) for each in PRESETS)
    assert log.is_file()


def test_a_model_may_have_one_of_its_own():
    assert preset("learning_rate", "fm") == 1e-3
    assert preset("learning_rate", "autoint") == 3e-3
    assert preset("learning_rate", "autoint+") == 1e-3
    assert preset("learning_rate", "rowwise_adagrad", "autoint") == 0.1
    with pytest.raises(KeyError, match="nothing"):
        preset("nothing", "fm")


@pytest.mark.parametrize("module", [settings, config])
def test_no_other_number_is_in_the_settings(module):
    tree = ast.parse(Path(module.__file__).read_text())
    numbers = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, int | float)
    }
    assert numbers <= {0, 1}
