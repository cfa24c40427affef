"""Asks a server again and again, and says how long the answers take."""

import threading
import time
from pathlib import Path

import click
import numpy as np
import requests

from apps.serving.client import read, server_options
from apps.serving.connection import connect


@click.command()
@server_options
@click.option(
    "--clients",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="That ask at the same time, each the next when it has its answer.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    help="For how long.",
)
def main(
    url: str,
    grpc: str | None,
    model: str,
    source: Path,
    columns: tuple[str, ...],
    batch_size: int,
    clients: int,
    seconds: float,
) -> None:
    """Measure latency and throughput of a model with the rows of a CSV file.

    \b
    Example:
      python -m apps.serving.load --model clicks --input new.csv
        --batch-size 100 --clients 8
    """
    try:
        connection = connect(url, grpc, model)
        batches = [
            inputs
            for _, inputs in read(connection, source, columns, batch_size)
        ]
        if not batches:
            raise click.ClickException(f"{source}: found no rows.")
        connection.predict(batches[0])  # the first is slower
    except requests.RequestException as error:
        raise click.ClickException(f"{url} does not answer: {error}") from error
    latencies: list[float] = []
    failures: list[str] = []
    rows = [0] * clients
    end = time.perf_counter() + seconds

    def ask(number: int) -> None:
        own = connect(url, grpc, model)
        place = number
        while time.perf_counter() < end:
            inputs = batches[place % len(batches)]
            began = time.perf_counter()
            try:
                rows[number] += len(own.predict(inputs))
            except Exception as error:  # of whatever kind: a thread hides it
                failures.append(str(error))
                return
            latencies.append(time.perf_counter() - began)
            place += clients

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    passed = time.perf_counter() - began
    if failures:
        raise click.ClickException(
            f"{len(failures)} of {clients} clients have stopped: {failures[0]}"
        )
    if not latencies:
        raise click.ClickException(f"no answer within {seconds} seconds.")
    p50, p99 = 1e3 * np.percentile(latencies, [50, 99])
    click.echo(
        f"{len(latencies):,} requests of {sum(rows) / len(latencies):.0f} "
        f"rows, {clients} clients: "
        f"{len(latencies) / passed:,.0f} requests/s, "
        f"{sum(rows) / passed:,.0f} rows/s\n"
        f"p50 {p50:.2f} ms, p99 {p99:.2f} ms"
    )


if __name__ == "__main__":
    main()
