"""Vectors that a perceptron computes from hashes."""

import math
from typing import Any

import keras
from keras import ops

from keras_pep.lab.baselines.compressed import CompressedEmbedding


@keras.saving.register_keras_serializable(package="keras_pep")
class DeepHashEmbedding(CompressedEmbedding):
    """Deep hash embedding: a perceptron of an id's hashes, and no table.

    ```
    vector = dense(relu(dense(...relu(dense(hashes(id))))))
    ```

    As many hashes as hidden units, and `units ** 0.25` hidden layers, as Tsang
    & Ahle have it, who found ReLU better than the paper's Mish.

    Args:
        *args: Those of `CompressedEmbedding`.
        **kwargs: The same.

    Reference:
        - [Kang et al., 2021](https://arxiv.org/abs/2010.10784)
        - [Tsang & Ahle, 2023](https://arxiv.org/abs/2310.08670)
    """

    def build(self, input_shape: Any = None) -> None:
        """Creates the perceptron, as wide as fits."""
        self.units = self._largest(self._parameters_of)
        widths = [self.units] * _layers(self.units) + [self.output_dim]
        limits = [self.units**-0.5] * len(widths)
        limits[-1] *= self.scale
        layers = [*enumerate(zip(widths, limits, strict=True))]
        self.kernels = [
            self._weight(f"kernel_{n}", (self.units, width), limit)
            for n, (width, limit) in layers
        ]
        self.biases = [
            self._weight(f"bias_{n}", (width,), limit)
            for n, (width, limit) in layers
        ]
        self.built = True

    def _parameters_of(self, units: int) -> int:
        outputs = _layers(units) * units + self.output_dim
        return (units + 1) * outputs

    def _vectors(self, rows: Any) -> Any:
        hashes = ops.cast(self._hashes(rows, self.units, 2**31 - 1), "float32")
        values = (hashes * 2.0**-30 - 1) / math.sqrt(self.units)
        values = ops.cast(values, self.compute_dtype)
        for number, (kernel, bias) in enumerate(
            zip(self.kernels, self.biases, strict=True)
        ):
            values = ops.relu(values) if number else values
            values = ops.matmul(values, kernel) + bias
        return values


def _layers(units: int) -> int:
    return math.ceil(math.sqrt(math.sqrt(units)))
