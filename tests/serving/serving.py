"""What the tests of this folder share: calls in TensorFlow's C runtime."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

_CHILD = Path(__file__).with_name("in_c.py")


def in_c_runtime(path, calls):
    """Answers to `(signature, inputs)`, from a process without TensorFlow."""
    content = json.dumps(
        [
            (name, {k: _typed(array) for k, array in inputs.items()})
            for name, inputs in calls
        ]
    )
    done = subprocess.run(
        [sys.executable, "-I", _CHILD, path],
        input=content,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    _, *answers = json.loads(done.stdout)
    return answers


def _typed(array):
    array = np.asarray(array)
    dtype = "object" if array.dtype.kind in "OU" else str(array.dtype)
    return dtype, array.shape, array.ravel().tolist()


def raw_inputs(report, rows):
    """Inputs of the default signature for rows of text."""
    inputs = {}
    for field in report["fields"]:
        texts = [row[field["column"]] for row in rows]
        if field["input"] == "float64":
            made = np.array([float(text or "nan") for text in texts])
        elif field["input"] == "int64":
            made = np.array(texts, dtype=np.int64)
        else:
            made = np.array(texts, dtype=object)
        inputs[field["name"]] = made
    return inputs
