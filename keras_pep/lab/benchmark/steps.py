"""The time and memory of a training step, as the table grows."""

import functools
import importlib.util
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_pep.lab.benchmark.turns import Measured, Program, take_turns
from keras_pep.lab.text import markdown

FIELDS = 39  # as in Criteo
DIM = 24  # as the PEP authors take for it
BATCH = 1024
# With it a batch has 9,781 distinct ids at 1.2 M rows. In the first five
# batches of Criteo's Kaggle training file there are 9,797 to 10,392.
ZIPF = 1.3
SMALL, LARGE = 1_200_000, 12_000_000
STEPS_PER_EXECUTION = 10
_TINY = 3_900  # rows, to load libraries and start threads with

PEP = "PEPEmbedding, LazyAdam"
PEP_L2 = "PEPEmbedding, LazyAdam with L2"
PEP_ONE = "PEPEmbedding, one threshold, LazyAdam"
PEP_ROWWISE = "PEPEmbedding, one threshold, RowwiseAdagrad"
PEP_KERAS = "PEPEmbedding, Keras Adam"
PEP_ONE_KERAS = "PEPEmbedding, one threshold, Keras Adam"
ROWS = "rows alone, LazyAdam"
KERAS_LAZY = "keras.layers.Embedding, LazyAdam"
KERAS = "keras.layers.Embedding, Keras Adam"
TORCH = "torch Embedding(sparse), SparseAdam"

_ADAM, _LAZY, _ROWWISE = "Adam", "LazyAdam", "RowwiseAdagrad"
# The granularity of thresholds, or another kind of embedding; the optimizer,
# and its L2.
_MODELS = {
    PEP: ("feature_dimension", _LAZY, 0.0),
    PEP_L2: ("feature_dimension", _LAZY, 1e-5),
    PEP_ONE: ("global", _LAZY, 0.0),
    PEP_ROWWISE: ("global", _ROWWISE, 0.0),
    PEP_KERAS: ("feature_dimension", _ADAM, 0.0),
    PEP_ONE_KERAS: ("global", _ADAM, 0.0),
    ROWS: ("rows", _LAZY, 0.0),
    KERAS_LAZY: ("dense", _LAZY, 0.0),
    KERAS: ("dense", _ADAM, 0.0),
}


def step_table(
    blocks: int = 7, steps: int = 50, rows: tuple[int, int] = (SMALL, LARGE)
) -> str:
    """Time FM steps of plain and PEP embeddings side by side.

    Factorization machines, 39 fields of equal size with Zipf ids, d = 24,
    batches of 1,024; PEP with a threshold per entry, or with one for all.
    Everything but PyTorch is timed inside `model.fit`.

    Args:
        blocks: How often each variant has its turn.
        steps: Training steps in a turn.
        rows: Features of the small and of the large table.

    Returns:
        A table, ratios and what they are of.
    """
    small, large = rows
    both = (PEP, PEP_ONE, PEP_ROWWISE, ROWS)
    sizes: dict[str, tuple[int, ...]] = dict.fromkeys(both, rows)
    sizes |= dict.fromkeys((PEP_L2, KERAS_LAZY, KERAS), (small,))
    variants: dict[tuple[str, int], Program] = {
        (name, size): functools.partial(keras_steps, name, size, steps)
        for name, of_name in sizes.items()
        for size in of_name
    }
    if importlib.util.find_spec("torch") is not None:
        variants[TORCH, small] = functools.partial(_torch_steps, small, steps)
    measured = take_turns(
        {_title(*key): variant for key, variant in variants.items()}, blocks
    )
    results = dict(zip(variants, measured.values(), strict=True))
    table = markdown(
        ["variant", "ms per step", "fastest - slowest", "peak memory"],
        [
            [
                *(_title(*key), f"{found.median:.1f}", found.spread()),
                f"{found.memory / 2**20:,.0f} MiB",
            ]
            for key, found in results.items()
        ],
    )
    return "\n".join([table, "", *_ratios(results, small, large)])


def _title(name: str, rows: int) -> str:
    return f"{name}, {rows / 1e6:g} M rows"


def _ratios(
    results: dict[tuple[str, int], Measured], small: int, large: int
) -> list[str]:
    pep, pep_large = results[PEP, small], results[PEP, large]
    one, one_large = results[PEP_ONE, small], results[PEP_ONE, large]
    # Table and thresholds, and Adam's two moments of each; first-order
    # weights and theirs.
    needed = large * 4 * (2 * DIM * 3 + 3)
    distinct = {rows: distinct_ids(rows) for rows in (small, large)}
    lines = [
        f"PEP, {large / 1e6:g} M rows against {small / 1e6:g} M: "
        f"{pep_large.median / pep.median:.2f} x the time, for "
        f"{distinct[large] / distinct[small]:.2f} x the distinct ids a batch "
        f"({distinct[large]:,} against {distinct[small]:,})",
        f"One threshold, {large / 1e6:g} M rows against {small / 1e6:g} M: "
        f"{one_large.median / one.median:.2f} x the time",
    ]
    for name in (ROWS, KERAS_LAZY, KERAS, TORCH):
        if (name, small) in results:
            ratios = [
                f"{x.median / results[name, small].median:.2f} x"
                for x in (pep, one)
            ]
            lines.append(
                f"PEP against {_title(name, small)}: {ratios[0]}, "
                f"with one threshold {ratios[1]}"
            )
    lines += [
        f"PEP against {_title(ROWS, large)}: "
        f"{pep_large.median / results[ROWS, large].median:.2f} x",
        f"PEP, {large / 1e6:g} M rows, peak memory: "
        f"{pep_large.memory / needed:.2f} x table, thresholds and optimizer "
        f"slots ({needed / 2**20:,.0f} MiB)",
    ]
    return lines


def zipf_ids(rows: int, examples: int) -> np.ndarray:
    """Zipf ids of every field, in no order of popularity."""
    random = np.random.default_rng(0)
    size = rows // FIELDS
    shares = np.cumsum(np.arange(1, size + 1) ** -ZIPF)
    draws = random.random((FIELDS, examples)) * shares[-1]
    ranks = np.minimum(np.searchsorted(shares, draws), size - 1)
    columns = [random.permutation(size)[column] for column in ranks]
    return np.stack(columns, axis=1).astype(np.int32)


def distinct_ids(rows: int) -> int:
    """How many rows a batch looks up."""
    ids = zipf_ids(rows, BATCH)
    return sum(np.unique(column).size for column in ids.T)


def random_labels(examples: int) -> np.ndarray:
    """0 or 1, by chance."""
    draws = np.random.default_rng(1).integers(0, 2, examples)
    return draws.astype(np.float32)


def keras_steps(
    name: str, rows: int, steps: int, dim: int = DIM
) -> Iterator[float]:
    """`model.fit` with Keras on TensorFlow.

    Args:
        name: Which variant.
        rows: Features of the table.
        steps: Training steps in a block.
        dim: Columns of the table.
    """
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    if rows > _TINY:  # load libraries, start threads
        tiny = keras_steps(name, _TINY, STEPS_PER_EXECUTION)
        next(tiny)
        yield next(tiny)
    else:
        yield 0.0
    model, train = fm(name, rows, dim), zipf_batches(rows, steps)
    while True:
        began = time.perf_counter()
        model.fit(train, verbose=0, shuffle=False)
        yield (time.perf_counter() - began) / steps * 1e3


def fm(
    name: str,
    rows: int,
    dim: int = DIM,
    steps_per_execution: int = STEPS_PER_EXECUTION,
    dtype: str | None = None,
) -> Any:
    """A compiled factorization machine; see `keras_steps`."""
    import keras

    import keras_pep

    size = rows // FIELDS
    kind, optimizer, l2 = _MODELS[name]
    own: dict[str, Any] = {"name": "embedding", "dtype": dtype}
    embedding: Any = kind
    if kind == "rows":
        embedding = keras_pep.layers.RowEmbedding(FIELDS * size, dim, **own)
    elif kind != "dense":
        embedding = keras_pep.PEPEmbedding(
            FIELDS * size, dim, granularity=kind, **own
        )
    model = keras_pep.models.FM([size] * FIELDS, dim, embedding, dtype=dtype)
    model.compile(
        keras.optimizers.Adam(1e-3)
        if optimizer == _ADAM
        else getattr(keras_pep.optimizers, optimizer)(1e-3, l2=l2),
        keras.losses.BinaryCrossentropy(from_logits=True),
        steps_per_execution=steps_per_execution,
    )
    # While `fit` traces its graph, slots would be made twice over in memory.
    model.build()
    model.optimizer.build(model.trainable_variables)
    return model


def zipf_batches(rows: int, steps: int) -> Any:
    """As many batches for it, as a `tf.data.Dataset`."""
    from keras_pep.data import Split, batches

    examples = steps * BATCH
    split = Split(zipf_ids(rows, examples), random_labels(examples))
    return batches(split, BATCH, 0)


def _torch_steps(rows: int, steps: int) -> Iterator[float]:
    """The usual loop of PyTorch, without pruning."""
    import torch

    yield 0.0
    size = rows // FIELDS
    first = torch.arange(FIELDS) * size
    examples = steps * BATCH
    ids = torch.from_numpy(zipf_ids(rows, examples)).long() + first
    labels = torch.from_numpy(random_labels(examples))[:, None]
    table = torch.nn.Embedding(FIELDS * size, DIM, sparse=True)
    linear = torch.nn.Embedding(FIELDS * size, 1, sparse=True)
    bias = torch.nn.Parameter(torch.zeros(1))
    torch.nn.init.uniform_(table.weight, -0.05, 0.05)
    torch.nn.init.zeros_(linear.weight)
    optimizers = (
        torch.optim.SparseAdam([table.weight, linear.weight], lr=1e-3),
        torch.optim.Adam([bias], lr=1e-3),
    )
    loss = torch.nn.BCEWithLogitsLoss()
    while True:
        began = time.perf_counter()
        for start in range(0, examples, BATCH):
            batch = ids[start : start + BATCH]
            vectors = table(batch)
            total = vectors.sum(1)
            pairs = 0.5 * (total**2 - (vectors**2).sum(1)).sum(1, keepdim=True)
            logits = linear(batch).sum(1) + bias + pairs
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss(logits, labels[start : start + BATCH]).backward()
            for optimizer in optimizers:
                optimizer.step()
        yield (time.perf_counter() - began) / steps * 1e3
