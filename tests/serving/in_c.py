"""Runs calls of a SavedModel without Python TensorFlow; JSON in, JSON out.

python -I in_c.py SAVED_MODEL < calls
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import c_runtime
import numpy as np

answers = []
try:
    model = c_runtime.SavedModel(sys.argv[1])
    answers.append({"signatures": sorted(model.signatures)})
    for signature, inputs in json.load(sys.stdin):
        arrays = {
            name: np.array(values, dtype=dtype).reshape(shape)
            for name, (dtype, shape, values) in inputs.items()
        }
        try:
            found = model(signature, arrays)
            answers.append({n: a.tolist() for n, a in found.items()})
        except c_runtime.ServingError as error:
            answers.append({"error": str(error)})
except c_runtime.ServingError as error:
    answers.append({"error": str(error)})
loaded = [name for name in sys.modules if name.startswith(("tensorf", "keras"))]
assert not loaded, loaded
print(json.dumps(answers, default=bytes.decode))
