"""Bytes that workers read from disk of an epoch, each its share.

Example:
    python -m benchmarks.divided --rows 20000000 --workers 2

Files of ids are made in the system's folder for temporary files. Each worker
is a process that begins with nothing of them in memory; Linux tells what it has
had read from the disk. Opening prepared data, which reads all of it once on
every worker to check it, is left out.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np

COLUMNS = (np.uint8, np.uint8, np.uint16, np.uint32)

_READ = """
import os, sys, time
from pathlib import Path
import numpy as np
from keras_pep.data import Batches, Split
from keras_pep.data.stored import StoredColumns

folder, *share = Path(sys.argv[1]), *map(int, sys.argv[2:])
paths = sorted(folder.iterdir())
columns = StoredColumns(paths)
labels = np.zeros(len(columns), np.float32)
data = Batches(Split(columns, labels), 1024, seed=0, share=tuple(share))
for path in paths:
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

def read():
    told = Path("/proc/self/io").read_text()
    return int(told.split("read_bytes: ")[1].split()[0])

before, began = read(), time.perf_counter()
for number in range(data.windows):
    data.window(0, number)
print(read() - before, time.perf_counter() - began)
"""


@click.command()
@click.option("--rows", default=20_000_000, show_default=True)
@click.option("--workers", default=2, show_default=True)
def main(rows: int, workers: int) -> None:
    """Print bytes of an epoch: of one process, and of each worker."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for place, dtype in enumerate(COLUMNS):
            ids = np.random.default_rng(place).integers(0, 200, rows, dtype)
            np.save(folder / f"{place}.npy", ids)
        os.sync()
        every = sum(path.stat().st_size for path in folder.iterdir())
        shares = [(0, 1), *((number, workers) for number in range(workers))]
        for number, count in shares:
            command = [
                sys.executable,
                "-c",
                _READ,
                name,
                *map(str, (number, count)),
            ]
            printed = subprocess.check_output(command, text=True).split()
            click.echo(
                f"part {number + 1} of {count}: {int(printed[0]):,} of "
                f"{every:,} bytes, {int(printed[0]) / every:.1%}, "
                f"{float(printed[1]):.1f} s"
            )


if __name__ == "__main__":
    main()
