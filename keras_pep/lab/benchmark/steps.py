"""The time and memory of a training step, as the table grows."""

import functools
import importlib.util
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
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
FBGEMM = "FBGEMM, row-wise Adagrad"

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
    blocks: int = 7,
    steps: int = 50,
    rows: tuple[int, int] = (SMALL, LARGE),
    only: Sequence[str] = (),
    dim: int = DIM,
) -> str:
    """Time FM steps of plain and PEP embeddings side by side.

    Factorization machines, 39 fields of equal size with Zipf ids, batches of
    1,024; PEP with a threshold per entry, or with one for all. Everything but
    PyTorch and FBGEMM, which is PyTorch's kernel for large tables and what
    TorchRec trains with on a CPU, is timed inside `model.fit`.

    Args:
        blocks: How often each variant has its turn.
        steps: Training steps in a turn.
        rows: Features of the small and of the large table.
        only: The variants; by default all whose packages are installed.
        dim: Columns of the table.

    Raises:
        ValueError: If there is no such variant.

    Returns:
        A table, ratios and what they are of.
    """
    small, large = rows
    both = (PEP, PEP_ONE, PEP_ROWWISE, ROWS)
    sizes: dict[str, tuple[int, ...]] = dict.fromkeys(both, rows)
    sizes |= dict.fromkeys((PEP_L2, KERAS_LAZY, KERAS), (small,))
    if importlib.util.find_spec("torch") is not None:
        sizes[TORCH] = (small,)
    if importlib.util.find_spec("fbgemm_gpu") is not None:
        sizes[FBGEMM] = rows
    if missing := {*only} - {*sizes}:
        raise ValueError(
            f"found the variants {sorted(missing)}, expected some of "
            f"{', '.join(map(repr, sizes))}."
        )
    variants: dict[tuple[str, int], Program] = {}
    others = {TORCH: _torch_steps, FBGEMM: _fbgemm_steps}
    for name in only or sizes:
        made = others.get(name, functools.partial(keras_steps, name))
        for size in sizes[name]:
            variants[name, size] = functools.partial(made, size, steps, dim)
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
    return "\n".join([table, "", *_ratios(results, small, large, dim)])


def _title(name: str, rows: int) -> str:
    return f"{name}, {rows / 1e6:g} M rows"


def _ratios(
    results: dict[tuple[str, int], Measured], small: int, large: int, dim: int
) -> Iterator[str]:
    distinct = {rows: distinct_ids(rows) for rows in (small, large)}
    yield (
        f"A batch looks up {distinct[small]:,} distinct ids of "
        f"{small / 1e6:g} M rows, and {distinct[large]:,} of {large / 1e6:g} M."
    )
    for name in (PEP, PEP_ONE, PEP_ROWWISE, FBGEMM):
        if {(name, small), (name, large)} <= {*results}:
            times = results[name, large].median / results[name, small].median
            yield (
                f"{name}, {large / 1e6:g} M rows against {small / 1e6:g} M: "
                f"{times:.2f} x the time"
            )
    for name, size in itertools.product(
        (ROWS, KERAS_LAZY, KERAS, TORCH), (small, large)
    ):
        if (name, size) in results:
            yield from _against(results, (PEP, PEP_ONE), name, size)
    for size in (small, large):
        if (FBGEMM, size) in results:
            yield from _against(results, (PEP_ONE, PEP_ROWWISE), FBGEMM, size)
    if (PEP, large) in results:
        # Table and thresholds, and Adam's two moments of each; first-order
        # weights and theirs.
        needed = large * 4 * (2 * dim * 3 + 3)
        yield (
            f"{PEP}, {large / 1e6:g} M rows, peak memory: "
            f"{results[PEP, large].memory / needed:.2f} x table, thresholds "
            f"and optimizer slots ({needed / 2**20:,.0f} MiB)"
        )


def _against(
    results: dict[tuple[str, int], Measured],
    names: Sequence[str],
    other: str,
    rows: int,
) -> Iterator[str]:
    """Say how much longer variants take than another, and how much memory."""
    with_it = results[other, rows]
    for name in names:
        if found := results.get((name, rows)):
            yield (
                f"{name} against {_title(other, rows)}: "
                f"{found.median / with_it.median:.2f} x the time, "
                f"{found.memory / with_it.memory:.2f} x the memory"
            )


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
    from keras_pep.distribution.replicas import build_slots

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
    build_slots(model)
    return model


def zipf_batches(rows: int, steps: int) -> Any:
    """As many batches for it, as a `tf.data.Dataset`."""
    from keras_pep.data import Split, batches

    examples = steps * BATCH
    split = Split(zipf_ids(rows, examples), random_labels(examples))
    return batches(split, BATCH, 0)


def _torch_steps(rows: int, steps: int, dim: int) -> Iterator[float]:
    """The usual loop of PyTorch, without pruning."""
    import torch

    yield 0.0
    size = rows // FIELDS
    table = torch.nn.Embedding(FIELDS * size, dim, sparse=True)
    linear = torch.nn.Embedding(FIELDS * size, 1, sparse=True)
    bias = torch.nn.Parameter(torch.zeros(1))
    torch.nn.init.uniform_(table.weight, -0.05, 0.05)
    torch.nn.init.zeros_(linear.weight)
    optimizers = (
        torch.optim.SparseAdam([table.weight, linear.weight], lr=1e-3),
        torch.optim.Adam([bias], lr=1e-3),
    )

    def looked_up(batch: Any) -> tuple[Any, Any]:
        return table(batch), linear(batch)

    yield from _torch_loop(rows, steps, looked_up, bias, optimizers)


def _fbgemm_steps(rows: int, steps: int, dim: int) -> Iterator[float]:
    """The same with FBGEMM's table, which is updated as gradients are made.

    The first-order weight is one more column of a row: widths are multiples of
    four.
    """
    import torch
    from fbgemm_gpu import (
        split_table_batched_embeddings_ops_common as common,
    )
    from fbgemm_gpu import (
        split_table_batched_embeddings_ops_training as training,
    )

    yield 0.0
    place = common.EmbeddingLocation.HOST, training.ComputeDevice.CPU
    columns = -(-(dim + 1) // 4) * 4
    table = training.SplitTableBatchedEmbeddingBagsCodegen(
        [(rows // FIELDS * FIELDS, columns, *place)],
        optimizer=training.OptimType.EXACT_ROWWISE_ADAGRAD,
        learning_rate=0.01,
        pooling_mode=common.PoolingMode.NONE,
    )
    (weights,) = table.split_embedding_weights()
    weights.uniform_(-0.05, 0.05)
    weights[:, dim:] = 0
    bias = torch.nn.Parameter(torch.zeros(1))
    offsets = torch.arange(BATCH * FIELDS + 1)

    def looked_up(batch: Any) -> tuple[Any, Any]:
        found = table(batch.ravel(), offsets).view(BATCH, FIELDS, columns)
        return found[..., :dim], found[..., dim : dim + 1]

    optimizers = (torch.optim.Adam([bias], lr=1e-3),)
    yield from _torch_loop(rows, steps, looked_up, bias, optimizers)


def _torch_loop(
    rows: int,
    steps: int,
    looked_up: Callable[[Any], tuple[Any, Any]],
    bias: Any,
    optimizers: Sequence[Any],
) -> Iterator[float]:
    """Train a factorization machine with PyTorch.

    Args:
        rows: Features of the table.
        steps: Training steps in a block.
        looked_up: Gives vectors and first-order weights of a batch of ids.
        bias: A parameter.
        optimizers: Those of all parameters.
    """
    import torch

    examples = steps * BATCH
    first = torch.arange(FIELDS) * (rows // FIELDS)
    ids = torch.from_numpy(zipf_ids(rows, examples)).long() + first
    labels = torch.from_numpy(random_labels(examples))[:, None]
    loss = torch.nn.BCEWithLogitsLoss()
    while True:
        began = time.perf_counter()
        for start in range(0, examples, BATCH):
            vectors, weights = looked_up(ids[start : start + BATCH])
            total = vectors.sum(1)
            pairs = 0.5 * (total**2 - (vectors**2).sum(1)).sum(1, keepdim=True)
            logits = weights.sum(1) + bias + pairs
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss(logits, labels[start : start + BATCH]).backward()
            for optimizer in optimizers:
                optimizer.step()
        yield (time.perf_counter() - began) / steps * 1e3
