"""`keras-pep benchmark`."""

from pathlib import Path

import click

from keras_pep.lab.cli.common import FOLDER, command

_TABLES = ("steps", "loop", "sizes")


@command
@click.option(
    "--table",
    "tables",
    type=click.Choice(_TABLES),
    multiple=True,
    help="Table to print. Repeatable.  [default: all]",
)
@click.option(
    "--blocks",
    type=click.IntRange(min=1),
    default=9,
    help="Turns of each variant, in the table steps.",
)
@click.option(
    "--rows",
    type=click.IntRange(min=39),
    nargs=2,
    default=(1_200_000, 12_000_000),
    help="Features of the small and of the large embedding table, in the table "
    "steps. 12 million take 15 GiB of memory.",
)
@click.option(
    "--dim",
    type=click.IntRange(min=1),
    default=24,
    help="Columns of these tables.",
)
@click.option(
    "--variant",
    "variants",
    multiple=True,
    help="Row of the table steps, by its name. Repeatable.  [default: all]",
)
@click.option(
    "--data-dir",
    type=FOLDER,
    help="Folder of MovieLens-1M for the table loop.  [default: random data "
    "of the same shape]",
)
def benchmark(
    tables: tuple[str, ...],
    blocks: int,
    rows: tuple[int, int],
    dim: int,
    variants: tuple[str, ...],
    data_dir: Path | None,
    quiet: bool,
) -> None:
    """Time training steps and measure sizes on this machine.

    \b
    steps: milliseconds of a training step of FM, 39 fields, Zipf ids, with PEP
           and plain embeddings of two sizes, and with PyTorch's SparseAdam and
           FBGEMM's row-wise Adagrad if they are installed
    loop:  time of keras-pep train outside of the training step
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
            try:
                found = measure.step_table(
                    blocks, rows=rows, only=variants, dim=dim
                )
            except ValueError as error:
                raise click.BadParameter(
                    str(error), param_hint="--variant"
                ) from error
            click.echo(found)
        elif table == "loop":
            folder = None if data_dir is None else str(data_dir)
            click.echo(measure.loop_table(folder))
        else:
            click.echo(measure.size_table())
        click.echo()
