"""The same training by one process and by several that share its batches.

Example:
    python -m benchmarks.workers --data-dir ml-1m

Trains on MovieLens-1M with the paper's features, by `keras-pep train`: once
alone, once by workers on this machine, and once more by workers of which one
is killed in the middle of the search, and all are started again.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from keras_pep.lab.run import RunDirectory

_COMMAND = (sys.executable, "-c", "from keras_pep.lab.cli import main; main()")


@click.command()
@click.option("--data-dir", required=True, help="Folder with ratings.dat.")
@click.option("--workers", default=2, show_default=True)
@click.option("--search-epochs", default=8, show_default=True)
@click.option("--retrain-epochs", default=6, show_default=True)
@click.option("--optimizer", default="lazy-adam", show_default=True)
@click.option("--kill/--no-kill", default=True, show_default=True)
def main(
    data_dir: str,
    workers: int,
    search_epochs: int,
    retrain_epochs: int,
    optimizer: str,
    *,
    kill: bool,
) -> None:
    """Print what each has kept, its validation AUC, and seconds."""
    settings = [
        *("train", "--dataset", "movielens", "--data-dir", data_dir),
        *("--features", "paper", "--optimizer", optimizer, "--no-baseline"),
        *("--search-epochs", str(search_epochs), "--search-rate", "0.003"),
        *("--retrain-epochs", str(retrain_epochs), "--retrain-rate", "0.01"),
        *("--budget", "30000", "--budget", "10000", "--quiet"),
    ]
    many = [*settings, "--distribute", "multi-worker"]
    with tempfile.TemporaryDirectory() as folder:
        runs = {"one process": _alone(settings, Path(folder, "alone"))}
        name = f"{workers} workers"
        runs[name] = _together(workers, many, Path(folder, "many"))
        if kill:
            killed = Path(folder, "killed")
            _together(workers, many, killed, kill=search_epochs // 2)
            resume = ["train", "--resume", str(killed), "--quiet"]
            runs[f"{name}, one killed"] = _together(workers, resume, killed)
    first = runs["one process"]["budgets"]
    click.echo(
        "| trained by | budget | kept | validation AUC | difference | "
        "search, s | retraining, s |"
    )
    click.echo("|---|---:|---:|---:|---:|---:|---:|")
    for name, metrics in runs.items():
        for alone, found in zip(first, metrics["budgets"], strict=True):
            auc = found["validation"]["auc"]
            click.echo(
                f"| {name} | {found['target']:,} | "
                f"{found['embedding_parameters']:,} | {auc:.5f} | "
                f"{auc - alone['validation']['auc']:+.5f} | "
                f"{metrics['search']['seconds']:.0f} | "
                f"{found['seconds']:.0f} |"
            )


def _alone(arguments: list[str], folder: Path) -> dict[str, Any]:
    """The metrics of a run by one process."""
    command = [*_COMMAND, *arguments, "--run-dir", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return RunDirectory(folder).read_json("metrics.json")


def _together(
    workers: int, arguments: list[str], folder: Path, kill: int = 0
) -> dict[str, Any]:
    """The metrics of a run by several.

    Args:
        workers: How many.
        arguments: Of each.
        folder: The run directory.
        kill: After how many epochs the last of them is killed; 0: not at all.
    """
    if "--resume" not in arguments:
        arguments = [*arguments, "--run-dir", str(folder)]
    processes = [
        subprocess.Popen(
            [*_COMMAND, *arguments],
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
        )
        for environment in environments(workers)
    ]
    try:
        if kill:
            _kill_after(kill, processes, folder / "history.csv")
            return {}
        for process in processes:
            assert process.wait() == 0
    finally:
        for process in processes:
            process.kill()
    return RunDirectory(folder).read_json("metrics.json")


def _kill_after(
    epochs: int, processes: list[subprocess.Popen[bytes]], history: Path
) -> None:
    """Kills the last of some workers, and waits for the others to end."""
    while not history.exists() or len(history.read_text().splitlines()) <= (
        epochs
    ):
        if any(process.poll() is not None for process in processes):
            raise click.ClickException("over before it was killed")
        time.sleep(0.1)
    processes[-1].kill()
    for process in processes:
        assert process.wait() != 0


def environments(workers: int) -> list[dict[str, str]]:
    """For each of some workers, by what it will find the others."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(workers)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))  # a free port
        addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    return [
        {
            "TF_CONFIG": json.dumps(
                {
                    "cluster": {"worker": addresses},
                    "task": {"type": "worker", "index": number},
                }
            )
        }
        for number in range(workers)
    ]


if __name__ == "__main__":
    main()
