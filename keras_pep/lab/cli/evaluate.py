"""`keras-pep evaluate`."""

import json
from pathlib import Path

import click

from keras_pep.lab.cli.common import FOLDER, command

# Of `metrics.json`, besides the figures: what the table shows.
_SHOWN = (
    *("method", "target", "embedding_parameters", "sparsity"),
    *("total_parameters", "bytes", "exported_bytes"),
)


@command
@click.argument("run", type=FOLDER)
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test"]),
    default="test",
    help="Rows to evaluate on.",
)
@click.option(
    "--data-dir",
    type=FOLDER,
    help="Folder with the dataset's files, if they have moved.",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def evaluate(
    run: Path, split: str, data_dir: Path | None, as_json: bool, quiet: bool
) -> None:
    """Load the models of RUN and compute AUC and log-loss on a split.

    \b
    Example:
      keras-pep evaluate runs/movielens-fm-20260101-120000 --split validation
    """
    from keras_pep.lab.run import RunDirectory, evaluate_run, results_table
    from keras_pep.lab.run.table import models_in

    del quiet  # there is nothing but results
    metrics = evaluate_run(
        RunDirectory(run), split, None if data_dir is None else str(data_dir)
    )
    if as_json:
        found = [
            {
                **{name: entry.get(name) for name in _SHOWN},
                "sparsity": entry.get("sparsity", 0.0),  # as in the table
                "split": split,
                **entry[split],
            }
            for entry in models_in(metrics).values()
        ]
        click.echo(json.dumps(found, indent=1))
    else:
        click.echo(results_table(metrics, split))
