"""Scores the rows of a CSV file by a model that TensorFlow Serving serves."""

import contextlib
import csv
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import requests

from apps.serving.connection import Connection, batch_of, connect


def server_options(command: Any) -> Any:
    """The options that say which server, and which model."""
    for option in (
        click.option(
            "--url",
            default="http://localhost:8501",
            show_default=True,
            help="Of the server's REST API.",
        ),
        click.option(
            "--grpc", metavar="HOST:PORT", help="Use its gRPC API instead."
        ),
        click.option("--model", required=True, help="Name of the model."),
        click.option(
            "--input",
            "source",
            required=True,
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            help="CSV file with a column for each input.",
        ),
        click.option(
            "--column",
            "columns",
            metavar="INPUT=COLUMN",
            multiple=True,
            help="An input whose column has another name, such as "
            "when_hour=when. Repeatable.",
        ),
        click.option(
            "--batch-size",
            type=click.IntRange(min=1),
            default=500,
            show_default=True,
            help="Rows of a request.",
        ),
    ):
        command = option(command)
    return command


@click.command()
@server_options
@click.option(
    "--output",
    "target",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write the rows with a column `probability`.",
)
@click.option("--force", is_flag=True, help="Overwrite the output.")
def main(
    url: str,
    grpc: str | None,
    model: str,
    source: Path,
    columns: tuple[str, ...],
    batch_size: int,
    target: Path,
    force: bool,
) -> None:
    """Score a CSV file, batch by batch.

    \b
    Example:
      python -m apps.serving.client --model clicks --input new.csv
        --output scores.csv
    """
    if target.exists() and not force:
        raise click.BadParameter(
            f"{target} exists: choose another file, or overwrite it with "
            "--force.",
            param_hint="--output",
        )
    partial = target.with_name(f".partial-{target.name}")
    count = 0
    try:
        connection = connect(url, grpc, model)
        with partial.open("w", newline="", encoding="utf-8") as file:
            for rows, inputs in read(connection, source, columns, batch_size):
                scores = connection.predict(inputs)
                names = [n for n in rows[0] if n != "probability"]
                writer = csv.DictWriter(file, [*names, "probability"])
                if not count:
                    writer.writeheader()
                for row, score in zip(rows, scores, strict=True):
                    writer.writerow({**row, "probability": repr(score)})
                count += len(rows)
        if not count:
            raise click.ClickException(f"{source}: found no rows.")
        partial.replace(target)
    except requests.RequestException as error:
        raise click.ClickException(f"{url} does not answer: {error}") from error
    except OSError as error:
        raise click.ClickException(
            f"{target} cannot be written: {error.strerror}"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    click.echo(f"{count:,} rows scored: {target}")


def read(
    connection: Connection, source: Path, columns: tuple[str, ...], size: int
) -> Iterator[tuple[list[dict[str, str]], dict[str, list[Any]]]]:
    """Rows of a CSV file, and the inputs they are, batch by batch."""
    where = dict(column.split("=", 1) for column in columns if "=" in column)
    if len(where) < len(columns):
        raise click.BadParameter("expected INPUT=COLUMN", param_hint="--column")
    types = connection.inputs()
    if others := sorted({*where} - {*types}):
        raise click.BadParameter(
            f"the model has no input {', '.join(others)}; it has "
            f"{', '.join(types)}",
            param_hint="--column",
        )
    with source.open(newline="", encoding="utf-8-sig") as file:
        reader = _rows(source, csv.DictReader(file))
        found = next(reader)
        missing = [n for n in types if where.get(n, n) not in found]
        if missing:
            raise click.ClickException(
                f"{source}: found no column for {', '.join(missing)}; there "
                f"are {', '.join(found)}. --column says where an input is."
            )
        while rows := list(itertools.islice(reader, size)):
            yield rows, batch_of(rows, types, where)


def _rows(source: Path, reader: Any) -> Iterator[Any]:
    """The names of the columns, then every row, as long as they fit."""
    try:
        yield reader.fieldnames or []
        for row in reader:
            if None in row or None in row.values():
                raise click.ClickException(
                    f"{source}, line {reader.line_num}: found more or fewer "
                    f"values than the {len(reader.fieldnames)} columns."
                )
            yield row
    except (UnicodeDecodeError, csv.Error) as error:
        raise click.ClickException(
            f"{source} is no CSV in UTF-8: {error}"
        ) from error


if __name__ == "__main__":
    main()
