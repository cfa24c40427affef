"""Factorization machine."""

from typing import Any

import keras

from keras_pep.layers import FactorizationMachine, Linear
from keras_pep.models.base import FieldModel


@keras.saving.register_keras_serializable(package="keras_pep")
class FM(FieldModel):
    """Factorization machine: first-order weights and all pairs of vectors.

    ```
    logit = b + sum_i w_i + sum_{i<j} <v_i, v_j>
    ```

    Arguments, input and output are those of `FieldModel`.

    Example:

    ```python
    model = keras_pep.models.FM(field_sizes=[6040, 3706], embedding_dim=64)
    model.compile(
        keras_pep.optimizers.AdamL2(1e-3),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    ```

    Reference:
        - [Rendle, 2010](https://doi.org/10.1109/ICDM.2010.127)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        dtype = self.dtype_policy
        self.linear = Linear(sum(self.field_sizes), name="linear", dtype=dtype)
        self.pairs = FactorizationMachine(name="pairs", dtype=dtype)

    def call(self, inputs: Any) -> Any:
        """Logits of a batch of ids."""
        rows = self.table_rows(inputs)
        return self.linear(rows) + self.pairs(self.embedding(rows))
