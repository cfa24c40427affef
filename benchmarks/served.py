"""Scores of a run's model when it is served, against Keras' own.

Example:
    python -m benchmarks.served runs/movielens --budget 26567

Exports the model with values of each type, scores the test split by both
signatures in TensorFlow's C runtime, and prints how far probabilities and AUC
are from those of the Keras model.
"""

import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np

from keras_pep import metrics
from keras_pep.lab.run import RunDirectory
from keras_pep.lab.run.models import chosen_model
from keras_pep.serving import export_saved_model
from tests.serving.c_runtime import SavedModel


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.option("--budget", type=int, help="Which model.")
def main(run: Path, budget: int | None) -> None:
    """Print differences of probabilities and AUC, by type of values."""
    directory = RunDirectory(run)
    data = directory.read_config()[0].load_data()
    name, _ = chosen_model(
        directory, directory.read_json("metrics.json"), budget
    )
    model = directory.load_model(name)
    ids, labels = data.test.ids[:], data.test.labels
    logits = metrics.predict(model, ids).reshape(-1).astype(np.float64)
    expected = 1 / (1 + np.exp(-logits))
    auc = metrics.auc(labels, expected)
    click.echo(f"{name}, {len(labels):,} rows, AUC {auc:.6f} in Keras")
    click.echo("| values | ids | raw values | AUC | table bytes |")
    click.echo("|---|---:|---:|---:|---:|")
    for quantize in (None, "float16", "int8"):
        with tempfile.TemporaryDirectory() as folder:
            export = export_saved_model(
                model, Path(folder, "1"), data, quantize
            )
            served = SavedModel(export.path)
            by_id = served("ids", {"ids": ids})["probability"]
            by_value = served("serving_default", _raw(data, ids))["probability"]
        click.echo(
            f"| {quantize or 'float32'} | {np.abs(by_id - expected).max():.1e} "
            f"| {np.abs(by_value - expected).max():.1e} "
            f"| {metrics.auc(labels, by_id) - auc:+.7f} "
            f"| {export.report['table_bytes']:,} |"
        )


def _raw(data: Any, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Raw values of ids: only of fields whose values are the raw ones."""
    raw = {}
    for (name, vocabulary), column in zip(
        data.vocabularies.items(), ids.T, strict=True
    ):
        if vocabulary.field.kind != "category":
            raise click.ClickException(
                f"{name} is of kind {vocabulary.field.kind}: only categories "
                "can be told from their ids."
            )
        values = [vocabulary[number] for number in column]
        whole = vocabulary.values.dtype.kind in "iu"
        raw[name] = np.array(values, dtype=np.int64 if whole else object)
    return raw


if __name__ == "__main__":
    main()
