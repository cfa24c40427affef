"""Two tables, by quotient and remainder of the id."""

from typing import Any

import keras
from keras import ops

from keras_pep.lab.baselines.compressed import CompressedEmbedding
from keras_pep.lab.baselines.mixed_dimension import BudgetTooSmallError


@keras.saving.register_keras_serializable(package="keras_pep")
class QREmbedding(CompressedEmbedding):
    """Two small tables: each pair of rows belongs to one feature.

    ```
    vector = remainders[id % n] * quotients[id // n]
    ```

    Args:
        *args: Those of `CompressedEmbedding`.
        **kwargs: The same.

    Reference:
        - [Shi et al., 2020](https://arxiv.org/abs/1909.02107)
    """

    def build(self, input_shape: Any = None) -> None:
        """Creates both tables, that of remainders as large as fits."""
        total, features = self._rows_of(self.output_dim), self.input_dim
        for self.divisor in range(min(total, features), 0, -1):
            quotients = -(-features // self.divisor)
            if self.divisor + quotients <= total:
                break
        else:
            raise BudgetTooSmallError(self.parameters)
        self.remainders = self._weight(
            "remainders", (self.divisor, self.output_dim)
        )
        # Around 1, so that products begin as large as the vectors of others.
        self.quotients = self.add_weight(
            name="quotients",
            shape=(quotients, self.output_dim),
            initializer=keras.initializers.RandomUniform(0.5, 1.5),
            autocast=False,
        )
        self.built = True

    def _vectors(self, rows: Any) -> Any:
        return self._read(self.remainders, rows % self.divisor) * self._read(
            self.quotients, ops.floor_divide(rows, self.divisor)
        )
