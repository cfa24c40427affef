"""Places of texts among others, which may be in a file that is mapped."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute


class Places:
    """Finds texts by halving the range in which each can be.

    A table of hashes would be as large as the texts, and in memory.

    Args:
        texts: A PyArrow array of text; nulls are never found.
    """

    def __init__(self, texts: Any) -> None:
        self._texts = texts.cast(pa.large_string())
        self._order: np.ndarray | None = None
        self._size = len(texts) - texts.null_count
        rising = pa.compute.less(self._texts[:-1], self._texts[1:])
        if texts.null_count or not pa.compute.all(rising).as_py():
            order = pa.compute.sort_indices(self._texts)  # nulls at the end
            self._texts = self._texts.take(order)
            self._order = order.to_numpy().astype(np.int64)

    def of(self, texts: Any) -> np.ndarray:
        """Find the place of each text, the first if it is there twice.

        Args:
            texts: A PyArrow array, without nulls.

        Returns:
            int64, `(n,)`; -1 of what is not there.
        """
        if not self._size:
            return np.full(len(texts), -1)
        texts = texts.cast(pa.large_string())
        low = np.zeros(len(texts), dtype=np.int64)
        step = 1 << (self._size.bit_length() - 1)
        while step:
            end = low + step
            probes = self._at(end - 1)
            less = pa.compute.less(probes, texts).to_numpy(False)
            low = np.where(less & (end <= self._size), end, low)
            step //= 2
        same = pa.compute.equal(self._at(low), texts).to_numpy(False)
        places = (
            low
            if self._order is None
            else self._order[np.minimum(low, self._size - 1)]
        )
        return np.where(same & (low < self._size), places, -1)

    def _at(self, places: np.ndarray) -> Any:
        return self._texts.take(pa.array(np.minimum(places, self._size - 1)))
