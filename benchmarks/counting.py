"""How fast columns of many distinct values are prepared, and in what memory.

Examples:
    python -m benchmarks.counting --rows 20000000 --distinct 5000000 10000000
    python -m benchmarks.counting --rows 20000000 --times --min-count 1

A column of integers and one of text have so many distinct values: each of them
occurs once, the other rows have the first ones more often. The file is made in
the system's folder for temporary files (`TMPDIR`), prepared and opened by a
process of its own, whose peak memory the system tells.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet

_DISTINCT = 5_000_000, 10_000_000
_CHUNK = 1 << 20  # rows that are made at once
_LOAD = """
import json, resource, sys, time
from keras_pep import data

path, cache, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
told = []
for in_memory in (0, 2 << 30):  # as `keras-pep prepare` does, and `train`
    began = time.perf_counter()
    found = data.load(
        path, label="label", cache_dir=cache, in_memory=in_memory, **settings
    )
    told.append(time.perf_counter() - began)
    used = resource.getrusage(resource.RUSAGE_SELF)
    told += [used.ru_maxrss / 2**20, used.ru_utime + used.ru_stime]
told += [found.field_sizes, found.fingerprint()]
print(json.dumps(told))
"""


@click.command()
@click.option("--rows", default=20_000_000, show_default=True)
@click.option("--distinct", default=_DISTINCT, nargs=2, show_default=True)
@click.option("--min-count", default=10, show_default=True)
@click.option("--times", is_flag=True, help="Two columns of times, too.")
@click.option("--file", type=click.Path(path_type=Path), help="To make once.")
def main(
    rows: int,
    distinct: tuple[int, int],
    min_count: int,
    times: bool,
    file: Path | None,
) -> None:
    """Print rows a second and peak memory."""
    with tempfile.TemporaryDirectory() as name:
        path = file or Path(name) / "clicks.parquet"
        if not path.exists():
            _write(path, rows, distinct)
        fields = ["user:category", "item:category", "place", "device"]
        if times:
            fields += ["shown:time", "clicked:time"]
        settings = json.dumps({"fields": fields, "min_count": min_count})
        told = subprocess.run(
            [sys.executable, "-c", _LOAD, str(path), f"{name}/cache", settings],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
        seconds, peak, used, *opened, sizes, fingerprint = json.loads(told)
        click.echo(
            f"{rows:,} rows, {distinct[0]:,} and {distinct[1]:,} distinct"
            f"{', two columns of times' * times}: {seconds:.0f} s, {used:.0f} "
            f"of CPU, {rows / seconds:,.0f} rows a second, peak {peak:.2f} "
            f"GiB; opened in {opened[0]:.1f} s, peak {opened[1]:.2f} GiB\n"
            f"features {sizes}, fingerprint {fingerprint}"
        )


def _write(path: Path, rows: int, distinct: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    writer = None
    for first in range(0, rows, _CHUNK):
        place = np.arange(first, min(first + _CHUNK, rows))
        user, item = (
            np.where(
                place * size // rows != (place - 1) * size // rows,
                place * size // rows,
                (size * random.random(place.size) ** 3).astype(np.int64),
            )
            for size in distinct
        )
        shown = 1_700_000_000 + random.integers(0, 2_000_000, place.size)
        table = pa.table(
            {
                "label": random.random(place.size) < 0.2,
                "user": _hexadecimal(user),
                "item": (item * 7_919) % 1_000_000_007,
                "place": random.integers(0, 50, place.size),
                "device": random.integers(0, 1000, place.size),
                "shown": pa.array(shown, pa.timestamp("s")),
                "clicked": pa.array(
                    1000 * shown + random.integers(0, 10**6, place.size)
                ),
            }
        )
        writer = writer or pa.parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer
    writer.close()


def _hexadecimal(numbers: np.ndarray) -> pa.Array:
    """Spell numbers as 12 digits that differ from the first on."""
    spread = (numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4B)) << 16
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    places = spread[:, None] >> np.arange(60, 12, -4).astype(
        np.uint64
    ) & np.uint64(15)
    return pa.array(digits[places].view("S12").ravel().astype("U12"))


if __name__ == "__main__":
    main()
