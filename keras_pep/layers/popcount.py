"""How many bits are set: it says which places the bits of rows stand for."""

from typing import Any

import keras
from keras import ops


def popcount(words: Any) -> Any:
    """How many bits are set in each of some int32: int32."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return ops.cast(tf.raw_ops.PopulationCount(x=words), "int32")
    # Sums of ever wider fields of bits; the masks clear the sign's copies.
    pairs = words - ops.bitwise_and(ops.right_shift(words, 1), 0x55555555)
    fours = ops.bitwise_and(pairs, 0x33333333) + ops.bitwise_and(
        ops.right_shift(pairs, 2), 0x33333333
    )
    eights = ops.bitwise_and(fours + ops.right_shift(fours, 4), 0x0F0F0F0F)
    sixteens = eights + ops.right_shift(eights, 8)
    all_of_them = sixteens + ops.right_shift(sixteens, 16)
    return ops.bitwise_and(all_of_them, 0x3F)
