"""Initial values of a table, which can be made again some rows at a time."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import initializers, ops

from keras_pep._tf_kernels import is_used, table_of
from keras_pep.blocks import LARGE, row_blocks

# Those that draw every entry alike, whatever the others are.
_INDEPENDENT = {
    kind.__call__
    for kind in (
        *(initializers.RandomUniform, initializers.RandomNormal),
        *(initializers.TruncatedNormal, initializers.VarianceScaling),
        *(initializers.Constant, initializers.Zeros, initializers.Ones),
    )
}
# The initial values of every large table depend on these constants and on
# `LARGE`. To change one changes what `initial_embeddings()` of saved models
# gives, and to what a search of theirs rewinds. A test pins some values.
_ENTRIES_DRAWN = 2**20
# So many times these at once. Where drawing is compiled, each draw adds to it.
_DRAWN_TOGETHER = 4
_SEEDS = 2**30  # TensorFlow tells so many apart
_STRIDE = 0x9E3779B1  # odd: blocks of a table have different seeds


def initial_blocks(
    initializer: Any, shape: tuple[int, int], dtype: str
) -> Iterator[Any]:
    """The initial values of a table, by `row_blocks`.

    A table of more than 2**24 entries is drawn about 2**22 at a time, each time
    from a seed that the seed of the table and its place make, if it is a Keras
    initializer whose entries are independent: uniform, normal, truncated
    normal, the `VarianceScaling` of all kinds, or a constant. Others are drawn
    whole. In which blocks it is read makes no difference.

    Args:
        initializer: Whose seed, if it has one, is an integer.
        shape: Of the table.
        dtype: Of its values.

    Yields:
        Tensors of shape `(some, columns)`.
    """
    drawn = _drawn_at_once(initializer, shape, dtype)
    start, values = 0, next(drawn)
    for rows in row_blocks(*shape):
        while start + values.shape[0] < rows.stop:
            rest = values[rows.start - start :]
            values, start = next(drawn), rows.start
            if rest.shape[0]:
                values = ops.concatenate([rest, values])
        yield values[rows.start - start : rows.stop - start]


def _drawn_at_once(
    initializer: Any, shape: tuple[int, int], dtype: str
) -> Iterator[Any]:
    if not _is_divided(initializer, shape):
        yield ops.cast(initializer(shape, dtype=dtype), dtype)
        return
    step = _DRAWN_TOGETHER * max(1, _ENTRIES_DRAWN // shape[1])
    for number, start in enumerate(range(0, shape[0], step)):
        count = min(step, shape[0] - start)
        drawn = _of_block(initializer, number, count, shape)
        yield ops.cast(drawn((count, shape[1]), dtype=dtype), dtype)


def by_blocks(initializer: Any, shape: tuple[int, int]) -> Any:
    """The initializer that makes a whole table of `initial_blocks`.

    If its entries are independent and it is large. On TensorFlow it then is in
    huge pages, see `_tf_kernels.unset_table`.
    """
    divided = _is_divided(initializer, shape)
    return _ByBlocks(initializer) if divided else initializer


def with_seed(initializer: Any, seed: int) -> Any:
    """The same initializer with another seed, if it has one."""
    if not isinstance(initializer, initializers.Initializer):
        return initializer
    config = initializer.get_config()
    if "seed" not in config:
        return initializer
    return type(initializer).from_config({**config, "seed": seed})


@keras.saving.register_keras_serializable(package="keras_pep")
class GivenValues(initializers.Initializer):
    """Values that were given as an array, which no configuration holds.

    A layer made from a configuration begins with values of another initializer,
    until its weights are loaded.

    Args:
        values: Float array, or None if they are not known any more.
        otherwise: The other initializer.
    """

    def __init__(self, values: Any, otherwise: Any = "uniform") -> None:
        self.values = values
        self.otherwise = initializers.get(otherwise)

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        """Return the values, or draw others."""
        if self.values is None:
            return self.otherwise(shape, dtype=dtype)
        return ops.convert_to_tensor(self.values, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        """The other initializer alone."""
        return {
            "values": None,
            "otherwise": initializers.serialize(self.otherwise),
        }

    def clone(self) -> "GivenValues":
        """Another of the same values."""
        return GivenValues(self.values, self.otherwise)


class _ByBlocks(initializers.Initializer):
    def __init__(self, initializer: Any) -> None:
        self._initializer = initializer

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        dtype = keras.backend.standardize_dtype(dtype)
        blocks = _drawn_at_once(self._initializer, tuple(shape), dtype)
        if not is_used("huge pages"):
            return ops.concatenate(list(blocks))
        return table_of(blocks, shape, dtype)


def _is_divided(initializer: Any, shape: tuple[int, int]) -> bool:
    return (
        shape[0] * shape[1] > LARGE
        and type(initializer).__call__ in _INDEPENDENT
        and getattr(initializer, "input_axes", None) is None
        and np.ndim(getattr(initializer, "value", 0)) == 0
    )


def _of_block(
    initializer: Any, number: int, count: int, shape: tuple[int, int]
) -> Any:
    """Return the function that draws a block of rows."""
    if not hasattr(initializer, "seed"):
        return initializer
    if isinstance(initializer, initializers.VarianceScaling):
        # It is the table whose shape decides on the scale.
        initializer = initializers.VarianceScaling(
            initializer.scale
            * _fan(initializer.mode, count, shape[1])
            / _fan(initializer.mode, *shape),
            initializer.mode,
            initializer.distribution,
            seed=initializer.seed,
        )
    words = np.random.SeedSequence(initializer.seed % 2**64)
    first = int(words.generate_state(1)[0])
    return with_seed(initializer, (first + number * _STRIDE) % _SEEDS)


def _fan(mode: str, rows: int, columns: int) -> float:
    """Compute the number that `VarianceScaling` divides its scale by."""
    fans = {"fan_in": rows, "fan_out": columns}
    return fans.get(mode, (rows + columns) / 2)
