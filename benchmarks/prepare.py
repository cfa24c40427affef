"""How fast Criteo and columns of times are prepared, and Criteo is read back.

Examples:
    python -m benchmarks.prepare --data-dir /path/to/criteo --copies 20
    python -m benchmarks.prepare --times 300000

The rows of `train.txt` are copied, and prepared by a process of its own, whose
peak memory Linux tells. Both are in the system's folder for temporary files
(`TMPDIR`), about 4 GB for 100 copies, and never in a working tree.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

BATCH = 1024

_PREPARE = """
import sys, time
from pathlib import Path
from keras_pep.data import kaggle
from keras_pep.data.prepare import prepare

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])

source = kaggle.criteo(sys.argv[1], None, min_count=10)
before, began = peak(), time.perf_counter()
prepare(source, Path(sys.argv[2]), seed=0, max_bad_rows=0.001)
print(time.perf_counter() - began, before, peak())
"""


@click.command()
@click.option(
    "--data-dir", type=click.Path(path_type=Path, exists=True), help="Criteo's."
)
@click.option("--copies", multiple=True, type=int, default=(20,))
@click.option("--epochs", default=5, show_default=True, help="Read back.")
@click.option("--times", type=int, help="Rows of columns of times.")
def main(
    data_dir: Path | None,
    copies: tuple[int, ...],
    epochs: int,
    times: int | None,
) -> None:
    """Print rows per second and peak memory."""
    if times:
        _times(times)
    if data_dir is None:
        return
    for number in copies:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            _copy(data_dir / "train.txt", folder / "train.txt", number)
            prepared = folder / "prepared"
            seconds, before, peak = _prepare(folder, prepared)
            (folder / "train.txt").unlink()
            rows = _report(prepared, epochs)
            click.echo(
                f"{number} copies, {rows:,} rows prepared: "
                f"{rows / seconds:,.0f} rows a second, peak "
                f"{peak / 1024:,.0f} MiB (before: {before / 1024:,.0f})"
            )


_FIELDS = (
    "",
    "ms:category",
    "ms:time",
    "seconds:time",
    "iso:time",
    "iso_text:time",
    "zone_text:time",
    "us_text:time(%m/%d/%Y %H:%M:%S)",
)


def _times(rows: int) -> None:
    """Prints rows per second of CPU, nearly all of whose times differ."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet

    from keras_pep import data

    random = np.random.default_rng(0)
    ms = random.integers(1_506_826_800_000, 1_510_603_400_000, rows)
    stamps = pd.to_datetime(pd.Series(ms), unit="ms")
    table = {
        "user": random.integers(0, 50_000, rows),
        "item": random.integers(0, 9_000, rows),
        "ms": ms,
        "seconds": ms // 1000,
        "iso": pa.array(ms, pa.timestamp("ms", tz="UTC")),
        "iso_text": stamps.astype(str),
        "zone_text": stamps.astype(str) + "+02:00",
        "us_text": stamps.dt.strftime("%m/%d/%Y %H:%M:%S").str.lstrip("0"),
        "label": random.random(rows) < 0.3,
    }
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "clicks.parquet"
        pyarrow.parquet.write_table(pa.table(table), path)

        def seconds(field: str) -> float:
            took = []
            for turn in range(3):
                began = time.process_time()
                data.load(
                    path,
                    label="label",
                    fields=["user", "item", *filter(None, [field])],
                    min_count=1,
                    cache_dir=Path(name) / f"{turn}{field[:3]}",
                )
                took.append(time.process_time() - began)
            return min(took)

        plain, *others = (seconds(field) for field in _FIELDS)
        for field, took in zip(_FIELDS, (plain, *others), strict=True):
            ratio = (took - plain) / (others[0] - plain)
            click.echo(
                f"{'user,item' + f',{field}' * bool(field):41} "
                f"{rows / took:11,.0f} rows a second of CPU, the column "
                f"{ratio:.2f} times a category's"
            )


def _copy(source: Path, target: Path, copies: int) -> None:
    content = source.read_bytes()
    with target.open("wb") as file:
        for _ in range(copies):
            file.write(content)


def _prepare(folder: Path, prepared: Path) -> list[float]:
    """Seconds; and KiB of memory, before anything is read and at most."""
    printed = subprocess.run(
        [sys.executable, "-c", _PREPARE, str(folder), str(prepared)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [float(number) for number in printed.split()]


def _report(prepared: Path, epochs: int) -> int:
    """Prints how fast batches are made; returns the number of rows."""
    from keras_pep.data import Batches, batches
    from keras_pep.data.stored import open_folder

    readers: dict[str, Callable[..., Iterable[Any]]] = {
        "plain loop": Batches,
        "tf.data": batches,
    }
    for where, in_memory in (("memory", 1 << 40), ("disk", 0)):
        dataset = open_folder(prepared, in_memory)
        for name, make in readers.items():
            reader = make(dataset.train, BATCH, seed=0)
            rates = []
            for _ in range(epochs):
                _forget(prepared)
                began = time.perf_counter()
                for _batch in reader:
                    pass
                rates.append(len(dataset.train) / (time.perf_counter() - began))
            click.echo(
                f"from {where}, {name}: {sorted(rates)[len(rates) // 2]:,.0f} "
                f"rows a second in batches of {BATCH:,} "
                f"({min(rates):,.0f} - {max(rates):,.0f})"
            )
    return sum(len(split) for split in dataset.splits.values())


def _forget(folder: Path) -> None:
    """Asks the system to read files from the disk again."""
    for path in folder.glob("*/*.npy"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main()
