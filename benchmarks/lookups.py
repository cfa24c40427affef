"""Size, time and memory of a pruned table in TensorFlow's C runtime.

Example:
    python -m benchmarks.lookups

A table of 1 M x 64 of which 1 % is kept, at random; look-ups of 1 x 39 and
1,024 x 39 ids, uniform or by Zipf's law. Each SavedModel is run by TensorFlow's
C API, as TensorFlow Serving runs it, in a process of its own; the processes
take turns, a block of calls each. Beside what keras-pep exports there are other
formulations of the same look-up by standard ops. "Prefixes": rows keep as many
entries, but their first ones, and are in order of size.
"""

import functools
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from keras_pep.lab.benchmark.turns import Measured, take_turns
from keras_pep.lab.text import markdown
from keras_pep.sparse import SparseTable
from tests.serving import c_runtime

FIELDS = 39
DENSE, EXPORTED, PREFIXES = "dense", "keras-pep", "prefixes"
_LAWS = ("uniform", "Zipf")
_BATCHES = (1, 1024)
_CALLS = {1: 1000, 1024: 40}  # in a block


@click.command()
@click.option("--rows", default=1_000_000, show_default=True)
@click.option("--columns", default=64, show_default=True)
@click.option("--density", default=0.01, show_default=True)
@click.option("--blocks", default=7, show_default=True, help="Per variant.")
@click.option(
    "--processor",
    is_flag=True,
    help="Time of the processor, in one thread, in place of the clock's.",
)
def main(
    rows: int, columns: int, density: float, blocks: int, processor: bool
) -> None:
    """Print bytes, milliseconds per look-up, and memory."""
    table = random_table(rows, columns, density)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(table, folder)
        click.echo(_sizes(table, folder))
        for law in _LAWS:
            for batch in _BATCHES:
                click.echo(_times(folder, rows, law, batch, blocks, processor))
        click.echo(_memory(folder, rows))


def random_table(rows: int, columns: int, density: float) -> SparseTable:
    """A table that keeps a share of its entries, each as likely as others."""
    random = np.random.default_rng(0)
    count = round(rows * columns * density)
    places = np.sort(random.choice(rows * columns, count, replace=False))
    sizes = np.bincount(places // columns, minlength=rows)
    return SparseTable(
        values=random.normal(size=count).astype(np.float32),
        columns=(places % columns).astype(np.uint8),
        row_splits=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32),
        output_dim=columns,
    )


def _prefixes(table: SparseTable) -> SparseTable:
    """A table of rows as large, of their first columns, in order of size."""
    sizes = -np.sort(-np.diff(table.row_splits))
    splits = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    places = np.arange(splits[-1]) - np.repeat(splits[:-1], sizes)
    columns = places.astype(table.columns.dtype)
    return SparseTable(table.values, columns, splits, table.output_dim)


def _write(table: SparseTable, folder: Path) -> None:
    """A SavedModel of each variant."""
    import keras
    import tensorflow as tf

    import keras_pep

    for kind, each in (None, table), (PREFIXES, _prefixes(table)):
        for quantize in (None, "float16", "int8"):
            ids = keras.Input((FIELDS,), dtype="int32", name="ids")
            layer = keras_pep.PrunedEmbedding.from_sparse(each)
            keras_pep.export_saved_model(
                keras.Model(ids, layer(ids)),
                folder / " ".join(filter(None, (EXPORTED, kind, quantize))),
                quantize=quantize,
            )
    spec = tf.TensorSpec([None, FIELDS], tf.int32, name="ids")
    for name, variables, vectors in _formulations(table):
        module = tf.Module()
        module.arrays = [tf.Variable(array) for array in variables]

        @tf.function(input_signature=[spec], autograph=False)
        def look_up(
            ids: Any,
            module: tf.Module = module,
            vectors: Callable[..., Any] = vectors,
        ) -> dict[str, Any]:
            found = vectors(tf.reshape(ids, [-1]), *module.arrays)
            shape = (-1, FIELDS, table.output_dim)
            return {"vectors": tf.reshape(found, shape)}

        tf.saved_model.save(
            module,
            str(folder / name),
            signatures={"serving_default": look_up.get_concrete_function()},
        )


def _formulations(
    table: SparseTable,
) -> list[tuple[str, list[np.ndarray], Callable[..., Any]]]:
    """Names, arrays, and how vectors are made of them."""
    import tensorflow as tf

    columns = table.output_dim
    csr = [table.values, table.columns, table.row_splits]

    def nothing(ids: Any, zero: Any) -> Any:
        return tf.zeros([tf.size(ids), columns]) + zero

    def dense(ids: Any, values: Any) -> Any:
        return tf.gather(values, ids)

    def ragged(ids: Any, values: Any, places: Any, splits: Any) -> Any:
        found = tf.ragged.range(
            tf.gather(splits, ids), tf.gather(splits, ids + 1)
        )
        row = tf.cast(found.value_rowids(), tf.int32)
        column = tf.cast(tf.gather(places, found.flat_values), tf.int32)
        return tf.scatter_nd(
            tf.stack([row, column], axis=1),
            tf.gather(values, found.flat_values),
            [tf.size(ids), columns],
        )

    def bincount(ids: Any, values: Any, places: Any, splits: Any) -> Any:
        found = tf.raw_ops.RaggedRange(
            starts=tf.gather(splits, ids),
            limits=tf.gather(splits, ids + 1),
            deltas=1,
            Tsplits=tf.int64,
        )
        return tf.raw_ops.RaggedBincount(
            splits=found[0],
            values=tf.cast(tf.gather(places, found[1]), tf.int32),
            size=columns,
            weights=tf.gather(values, found[1]),
        )

    def unique(ids: Any, *arrays: Any) -> Any:
        rows, positions = tf.unique(ids)
        return tf.gather(bincount(rows, *arrays), positions)

    def gather(ids: Any, values: Any, places: Any, splits: Any) -> Any:
        kept, column = (
            tf.raw_ops.RaggedGather(
                params_nested_splits=[splits],
                params_dense_values=array,
                indices=ids,
                OUTPUT_RAGGED_RANK=1,
            )
            for array in (values, places)
        )
        return tf.raw_ops.RaggedBincount(
            splits=tf.cast(kept[0][0], tf.int64),
            values=tf.cast(column[1], tf.int32),
            size=columns,
            weights=kept[1],
        )

    return [
        ("no table", [np.zeros((), np.float32)], nothing),
        (DENSE, [table.to_dense()], dense),
        ("CSR: ragged.range, scatter_nd", csr, ragged),
        ("CSR: RaggedRange, RaggedBincount", csr, bincount),
        ("CSR: unique rows, RaggedRange, RaggedBincount", csr, unique),
        ("CSR: RaggedGather, RaggedBincount", csr, gather),
    ]


def _sizes(table: SparseTable, folder: Path) -> str:
    kept, rows = table.values.size, table.shape[0]
    bounds = "(column + value) per entry, and 4 per row"
    lines = []
    for quantize, size in ((None, 5), ("float16", 3), ("int8", 2)):
        path = folder / " ".join(filter(None, (EXPORTED, quantize)))
        found = sum(p.stat().st_size for p in path.glob("variables/*"))
        bound = size * kept + 4 * rows
        ratio = f"{found / bound:.3f}"
        lines.append([quantize or "float32", f"{found:,}", f"{bound:,}", ratio])
    titles = ["values", "bytes of variables", bounds, "ratio"]
    first = f"{kept:,} of {rows:,} x {table.output_dim} entries kept"
    return f"{first}\n{markdown(titles, lines)}\n"


def _times(
    folder: Path, rows: int, law: str, batch: int, blocks: int, processor: bool
) -> str:
    names = [path.name for path in sorted(folder.iterdir())]
    names.remove(DENSE)
    measured: dict[str, Measured] = take_turns(
        {
            name: functools.partial(
                look_up, folder / name, rows, law, batch, processor
            )
            for name in (DENSE, *names)
        },
        blocks,
    )
    dense = measured[DENSE].milliseconds
    lines = []
    for name, each in measured.items():
        ratio = f"{np.median(np.divide(each.milliseconds, dense)):.2f}"
        lines.append([name, f"{each.median:.3f}", each.spread(3), ratio])
    titles = ["look-up", "ms", "fastest - slowest block", "ratio to dense"]
    table = markdown(titles, lines)
    return f"{batch:,} x {FIELDS} ids, {law}\n{table}\n"


def look_up(
    path: Path, rows: int, law: str, batch: int, processor: bool
) -> Iterator[float]:
    """Milliseconds of a call, the median of each block of calls."""
    yield 0.0
    model = c_runtime.SavedModel(path, threads=int(processor))
    calls = _CALLS[batch]
    # Made before, so that calls come one upon the other.
    batches = [
        random_ids(rows, law, batch, seed) for seed in range(min(calls, 200))
    ]
    while True:
        times = []
        for call in range(calls):
            ids = batches[call % len(batches)]
            model("serving_default", {"ids": ids})
            seconds = model.processor_seconds if processor else model.seconds
            times.append(1e3 * seconds)
        yield float(np.median(times))


def random_ids(rows: int, law: str, batch: int, seed: int) -> np.ndarray:
    """Ids of a batch; by Zipf's law of exponent 1.3, in no order of rows."""
    random = np.random.default_rng(seed)
    count = batch * FIELDS
    if law == "uniform":
        ids = random.integers(0, rows, count)
    else:
        ranks = random.zipf(1.3, 4 * count)
        ranks = ranks[ranks <= rows][:count]
        ids = ranks * 2_654_435_761 % rows  # Knuth's multiplicative hash
    return ids.reshape(batch, FIELDS).astype(np.int32)


_MEMORY = """
import sys
sys.path.insert(0, sys.argv[1])
import c_runtime, numpy, pathlib, resource
model = c_runtime.SavedModel(sys.argv[2])
for seed in range(5):
    random = numpy.random.default_rng(seed)
    ids = random.integers(0, int(sys.argv[3]), (39, 39)).astype("int32")
    model("serving_default", {"ids": ids})
pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
print(pages * resource.getpagesize())
"""


def _memory(folder: Path, rows: int) -> str:
    """Measure a process that serves, without Python TensorFlow."""
    runtime = Path(c_runtime.__file__).parent

    def resident(name: str) -> int:
        command = [sys.executable, "-I", "-c", _MEMORY, str(runtime)]
        command += [str(folder / name), str(rows)]
        made = [
            int(
                subprocess.run(
                    command,
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout
            )
            for _ in range(3)
        ]
        return sorted(made)[1]

    without = resident("no table")
    names = DENSE, EXPORTED, f"{EXPORTED} float16", f"{EXPORTED} int8"
    lines = [[n, f"{(resident(n) - without) / 1e6:.1f}"] for n in names]
    first = f"a process that serves no table: {without / 2**20:.0f} MiB"
    return f"{first}\n{markdown(['table', 'MB more'], lines)}"


if __name__ == "__main__":
    main()
