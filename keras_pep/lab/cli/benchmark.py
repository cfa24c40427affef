"""`keras-pep benchmark`."""

from pathlib import Path

import click

from keras_pep.lab.cli.common import command

_TABLES = ("steps", "loop", "sizes")


@command
@click.option(
    "--table",
    "tables",
    type=click.Choice(_TABLES),
    multiple=True,
    help="Which to print. Repeatable.  [default: all]",
)
@click.option(
    "--blocks",
    type=click.IntRange(min=1),
    default=9,
    show_default=True,
    help="steps: how often each variant has its turn.",
)
@click.option(
    "--rows",
    type=click.IntRange(min=39),
    nargs=2,
    default=(1_200_000, 12_000_000),
    show_default=True,
    help="steps: features of the small and of the large table. Those of the "
    "default take 15 GiB at 12 million.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="loop: folder of MovieLens-1M, instead of random data of its shape.",
)
def benchmark(
    tables: tuple[str, ...],
    blocks: int,
    rows: tuple[int, int],
    data_dir: Path | None,
    quiet: bool,
) -> None:
    """Time training steps side by side, and measure sizes, on this machine.

    \b
    steps: FM over 39 fields, Zipf ids, d = 24: PEP and plain embeddings, as
           the table grows, and PyTorch's SparseAdam if it is installed
    loop:  what of keras-pep train is not the training step
    sizes: bytes of a pruned table

    \b
    Example:
      keras-pep benchmark --table steps --blocks 9
    """
    from keras_pep.lab import benchmark as measure

    for table in tables or _TABLES:
        if not quiet:
            click.echo(f"{table} ...", err=True)
        if table == "steps":
            click.echo(measure.step_table(blocks, rows=rows))
        elif table == "loop":
            folder = None if data_dir is None else str(data_dir)
            click.echo(measure.loop_table(folder))
        else:
            click.echo(measure.size_table())
        click.echo()
