"""Beam's way of preparing files beside the local one: seconds, and equality.

Example:
    python -m benchmarks.cluster --criteo criteo --copies 20 --file own.csv \
        -- --runner=FnApiRunner

The rows of Criteo's `train.txt` are copied into as many files as there are
copies. What follows `--` are options of Beam.
"""

import filecmp
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click


@click.command()
@click.option(
    "--criteo", type=click.Path(path_type=Path, exists=True), help="Its folder."
)
@click.option("--copies", default=20, show_default=True)
@click.option(
    "--file",
    type=click.Path(path_type=Path, exists=True),
    help="Another one, with a column of labels.",
)
@click.option("--label", default="label", show_default=True)
@click.argument("beam", nargs=-1, type=click.UNPROCESSED)
def main(
    criteo: Path | None,
    copies: int,
    file: Path | None,
    label: str,
    beam: tuple[str, ...],
) -> None:
    """Print rows a second of both ways, and whether all files are the same."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if criteo is not None:
            rows = folder / "rows"
            rows.mkdir()
            header = ["label", *(f"c{n}" for n in range(1, 40))]
            content = (criteo / "train.txt").read_bytes()
            for number in range(copies):
                part = rows / f"{number:03}.tsv"
                part.write_bytes("\t".join(header).encode() + b"\n" + content)
            kinds = [f"c{n}:log" for n in range(1, 14)]
            fields = ",".join([*kinds, *header[14:]])
            _compare(
                folder / "criteo",
                *("--dataset", str(rows), "--label", "label"),
                *("--fields", fields, "--runner", "beam", "--", *beam),
            )
        if file is not None:
            _compare(
                folder / "file",
                *("--dataset", str(file), "--label", label),
                *("--runner", "beam", "--", *beam),
            )


def _compare(cache: Path, *arguments: str) -> None:
    """Prepare both ways, and print seconds and differences."""
    local = arguments[: arguments.index("--runner")]
    seconds = []
    for name, given in (("local", local), ("beam", arguments)):
        began = time.perf_counter()
        printed = subprocess.run(
            [
                *(sys.executable, "-c"),
                "from keras_pep.lab.cli import main; main()",
                *("prepare", "--quiet", "--cache-dir", str(cache / name)),
                *given,
            ],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        seconds.append(time.perf_counter() - began)
    found = {
        path.relative_to(cache / "local")
        for path in (cache / "local").rglob("*")
        if path.is_file()
    }
    made = [path for path in (cache / "beam").rglob("*") if path.is_file()]
    same, *_ = filecmp.cmpfiles(cache / "local", cache / "beam", found, False)
    differ = sorted(found.difference(same))
    click.echo(
        f"{printed.splitlines()[0]}\nlocal {seconds[0]:.1f} s, Beam "
        f"{seconds[1]:.1f} s; {len(found)} files, {len(made)} of Beam, "
        f"{len(differ)} differ {differ[:5]}"
    )


if __name__ == "__main__":
    main()
