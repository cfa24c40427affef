"""Tables and initial values on JAX and PyTorch, in one process of each."""

import json

import numpy as np
import pytest

from tests.backends import devices, run_on, skip_without
from tests.lab.baselines.test_compressed import FEATURES, REFERENCES
from tests.layers.test_initial import PINNED
from tests.layers.test_storage import TABLES

PROGRAM = """
import sys
sys.modules["tensorflow"] = None  # must not be needed
from tests.elsewhere import main
main()
"""


@pytest.mark.slow
@pytest.mark.requires_tensorflow  # which makes what they are compared with
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_compute_the_same(backend):
    skip_without(backend)
    # Every shape is compiled: those of the others differ in size alone.
    names = ("few", "whole rows", "one large")
    tables = json.dumps([TABLES[name].tolist() for name in names])
    found = run_on(backend, "-c", PROGRAM, input=tables, env=devices(8))
    assert found["worst"] == 0.0
    assert found["compressed"].keys() == REFERENCES.keys()
    for name, (weights, vectors) in found["compressed"].items():
        arrays = [np.array(weight) for weight in weights]
        expected = [REFERENCES[name](row, *arrays) for row in range(FEATURES)]
        np.testing.assert_allclose(vectors, expected, atol=2e-6)
    assert "KERAS_BACKEND=tensorflow" in found["exported"]
    assert found["pinned"] == pytest.approx(PINNED[backend], rel=1e-6)
    tables = found["drawn"]
    assert all(table["same"] for table in tables)
    shards = [table["shards"] for table in tables]
    assert shards == ([[], [[2000, 8]] * 8] if backend == "jax" else [[]])
    # Of a normal distribution of deviation 0.05; 128,000 entries.
    for table in tables:
        quantiles = table["quantiles"]
        assert quantiles == pytest.approx([-0.0641, 0, 0.0641], abs=0.0015)
