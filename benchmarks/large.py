"""A table of many rows: time of a training step, and memory of what comes then.

Example:
    python -m benchmarks.large --rows 20000000

FM over 39 fields with Zipf ids, batches of 1,024, a threshold for every entry,
LazyAdam. First steps with the large table and with one of a million rows, in
turns. Then, in a process of its own, a search that prunes 97 %, its ticket,
retraining and exports; of each it says what memory it needs at most, beyond
Python's libraries, the weights of the model and the slots of its optimizer, as
the process holds them once they are made. 20 M x 32 take 15.6 GB for these.
TensorFlow keeps what it has freed, so that what is held after a phase is what
any phase before has needed at most.
"""

import functools
import gc
import multiprocessing
import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

from keras_pep.lab.benchmark import steps as variants
from keras_pep.lab.benchmark.turns import peak, resident, take_turns
from keras_pep.lab.text import markdown

_SEARCH_STEPS, _SEARCH_EPOCHS = 10, 2  # per epoch; epochs
_TINY = 3_900  # rows, to load libraries with


@click.command()
@click.option("--rows", default=20_000_000, show_default=True)
@click.option("--small", default=1_000_000, show_default=True)
@click.option("--columns", default=32, show_default=True)
@click.option("--sparsity", default=0.97, show_default=True)
@click.option("--blocks", default=9, show_default=True, help="Per table.")
@click.option("--steps", default=50, show_default=True, help="Per block.")
@click.option("--only", type=click.Choice(["steps", "memory"]))
def main(
    rows: int,
    small: int,
    columns: int,
    sparsity: float,
    blocks: int,
    steps: int,
    only: str | None,
) -> None:
    """Print milliseconds per step, and memory of each phase."""
    if only != "memory":
        click.echo(_step_table(rows, small, columns, blocks, steps))
    if only == "steps":
        return
    for phases in (_two_fits, _one_fit):
        process = multiprocessing.get_context("spawn").Process(
            target=phases, args=(rows, columns, sparsity)
        )
        process.start()
        process.join()
        if process.exitcode:
            raise click.ClickException(f"it ended with {process.exitcode}")


def _step_table(
    rows: int, small: int, columns: int, blocks: int, steps: int
) -> str:
    sizes = {f"{size:,} x {columns}": size for size in (small, rows)}
    measured = take_turns(
        {
            name: functools.partial(
                variants.keras_steps, variants.PEP, size, steps, columns
            )
            for name, size in sizes.items()
        },
        blocks,
    )
    table = markdown(
        ["table", "ms per step", "fastest - slowest"],
        [
            [name, f"{each.median:.2f}", each.spread()]
            for name, each in measured.items()
        ],
    )
    few, many = (np.array(each.milliseconds) for each in measured.values())
    counts = [variants.distinct_ids(size) for size in (small, rows)]
    return (
        f"{table}\n\n{np.median(many) / np.median(few):.2f} x the time (turn "
        f"by turn {np.median(many / few):.2f} x), for "
        f"{counts[1] / counts[0]:.2f} x the distinct ids of a batch "
        f"({counts[1]:,} against {counts[0]:,})\n"
    )


class _Memory:
    """Says what each phase has needed at most, beyond a model that is built.

    Args:
        libraries: What the process held before there was a model, in bytes.
        model: Whose weights and slots are there now.
    """

    def __init__(self, libraries: int, model: Any) -> None:
        own = _bytes_of([*model.weights, *model.optimizer.variables])
        held = resident() - libraries
        self._known = _held("RssAnon")
        click.echo(
            f"table, thresholds, other weights and slots: {own / 1e9:.2f} GB; "
            f"the process holds {held / 1e9:.2f} GB for them, and "
            f"{libraries / 1e9:.2f} GB of libraries\n\n"
            "| phase | seconds | MiB beyond, at most | and after |\n"
            "|---|---:|---:|---:|"
        )

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
        files, began = _held("RssFile"), time.perf_counter()
        yield
        seconds = time.perf_counter() - began
        # Linux may take back pages of files, which are part of the peak.
        files = min(files, _held("RssFile"))
        highest = peak() - files - self._known
        gc.collect()
        after = _held("RssAnon") - self._known
        click.echo(
            f"| {name} | {seconds:.1f} | {highest / 2**20:,.0f} | "
            f"{after / 2**20:,.0f} |"
        )


def _bytes_of(variables: Any) -> int:
    from keras_pep.serving.sizes import bytes_of

    return bytes_of(variables)


def _held(kind: str) -> int:
    """Memory of a kind that this process holds now, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{kind}:")[1].split()[0]) * 1024


def _prepared(rows: int, columns: int) -> tuple[Any, Any, _Memory]:
    """The model, its data, and what watches over the memory."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    warnings.simplefilter("ignore")
    tiny = variants.keras_steps(variants.PEP, _TINY, 10, columns)
    next(tiny)
    next(tiny)
    libraries = resident()
    model = variants.fm(variants.PEP, rows, columns)
    memory = _Memory(libraries, model)
    with memory.phase("batches made"):
        train = variants.zipf_batches(rows, _SEARCH_STEPS)
    return model, train, memory


def _two_fits(rows: int, columns: int, sparsity: float) -> None:
    """`search`, the ticket, `retrain` and exports."""
    model, train, memory = _prepared(rows, columns)
    import keras_pep

    budget = round((1 - sparsity) * model.embedding.input_dim * columns)
    with memory.phase("search and ticket"):
        (ticket,) = keras_pep.search(
            model, train, budgets=[budget], epochs=_SEARCH_EPOCHS
        )
    kept = model.embedding.nonzero_parameters()
    assert kept == ticket.embedding_parameters <= budget
    with memory.phase("count"):
        model.embedding.sparsity()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with memory.phase("ticket saved"):
            ticket.save(folder / "ticket.npz")
        del ticket
        with memory.phase("searched model exported"):
            keras_pep.export_saved_model(model, folder / "1")
        with memory.phase("ticket loaded"):
            ticket = keras_pep.Ticket.load(folder / "ticket.npz")
        with memory.phase("retrained"):
            small = keras_pep.retrain(model, ticket, train, epochs=1)
        own = _bytes_of([*small.weights, *small.optimizer.variables])
        click.echo(f"| the small model has {own / 2**20:,.0f} MiB of these |")
        with memory.phase("small model saved"):
            small.save(folder / "small.keras")
        with memory.phase("small model exported"):
            keras_pep.export_saved_model(small, folder / "2")


def _one_fit(rows: int, columns: int, sparsity: float) -> None:
    """`PEPRetraining`, and what its model is made into."""
    click.echo("")
    model, train, memory = _prepared(rows, columns)
    import keras_pep

    retraining = keras_pep.callbacks.PEPRetraining(
        sparsity=sparsity, search_epochs=_SEARCH_EPOCHS, monitor="loss"
    )
    with memory.phase("search and retraining in one fit"):
        model.fit(
            train,
            epochs=_SEARCH_EPOCHS + 2,
            callbacks=[retraining],
            verbose=0,
            shuffle=False,
        )
    with memory.phase("made small"):
        small = keras_pep.pruned_model(model)
    with (
        tempfile.TemporaryDirectory() as name,
        memory.phase("small model saved"),
    ):
        small.save(Path(name, "small.keras"))


if __name__ == "__main__":
    main()
