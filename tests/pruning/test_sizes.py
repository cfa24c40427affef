"""Sizes: entries, shares, bytes."""

from types import SimpleNamespace

import numpy as np
import pytest

from keras_pep.layers.storage import Layout
from keras_pep.pruning import entries_of, number_of_bytes
from keras_pep.sparse import SparseTable

TABLE = SimpleNamespace(input_dim=1000, output_dim=16)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (5000, 5000),
        ("5000", 5000),
        ("100kB", 100_000),
        ("100 kB", 100_000),
        ("1.5MB", 1_500_000),
        ("2 MiB", 2 * 2**20),
        ("3k", 3000),
        ("1GiB", 2**30),
    ],
)
def test_numbers_of_bytes(text, expected):
    assert number_of_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "kB", "1 TB", "-5", "i", "3i", True])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match="such as 100kB"):
        number_of_bytes(text)


def test_each_kind_of_size():
    other = SimpleNamespace(input_dim=500, output_dim=4)  # 18,000 together
    assert entries_of([TABLE, other], budget=[50, 20]) == [50, 20]
    assert entries_of([TABLE, other], sparsity=0.9) == [1800]
    assert entries_of([TABLE], sparsity=[0.5, 0.75]) == [8000, 4000]


@pytest.mark.parametrize(
    ("size", "quantize"),
    [("6kB", None), ("20kB", None), ("9kB", "float16"), ("6kB", "int8")],
)
def test_bytes_are_kept_to_wherever_entries_are(size, quantize):
    (entries,) = entries_of([TABLE], max_bytes=size, quantize=quantize)
    random = np.random.default_rng(0)
    places = random.choice(16_000, entries, replace=False)
    for kept in (places, np.arange(entries)):  # anywhere, and whole rows
        assert _layout(kept, quantize).bytes <= number_of_bytes(size)
    # A fifth more would be too many, in every row that there is.
    more = random.choice(16_000, entries * 6 // 5, replace=False)
    assert _layout(more, quantize).bytes > number_of_bytes(size)


def _layout(places, quantize):
    table = np.zeros(16_000, "float32")
    table[places] = 1
    sparse = SparseTable.from_dense(table.reshape(1000, 16))
    return Layout.smallest(sparse, quantize=quantize)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({}, "Received: none of them"),
        ({"budget": 5, "sparsity": 0.5}, "one of `budget`"),
        ({"sparsity": 1.0}, "between 0 and 1"),
        ({"budget": 0.5}, "whole number"),
        ({"budget": 16_000}, "less than the 16,000"),
        ({"max_bytes": "10"}, "No entry fits into 10 bytes"),
        ({"max_bytes": "1 cm"}, "such as 100kB"),
        ({"max_bytes": "1 GB"}, "room for all"),
    ],
)
def test_what_is_no_size_is_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        entries_of([TABLE], **sizes)
