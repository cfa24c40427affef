"""Scores and time of a run's model when it is served.

Example:
    python -m benchmarks.served runs/movielens --budget 26567

Exports the model with values of each type, scores the test split by both
signatures in TensorFlow's C runtime, and prints how far probabilities and AUC
are from those of the Keras model. The exported models, and the dense model of
the run, take turns at requests of 1,000 rows of raw values: the time of one,
and its ratio to the dense model's, are medians.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from keras_pep import metrics
from keras_pep.lab.run import RunDirectory
from keras_pep.lab.run.models import chosen_model
from keras_pep.serving import export_saved_model
from tests.serving.c_runtime import SavedModel

_TYPES = (None, "float16", "int8")
_REQUESTS = 100


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.option("--budget", type=int, help="Which model.")
def main(run: Path, budget: int | None) -> None:
    """Print differences of scores, and times, by type of values."""
    directory = RunDirectory(run)
    data = directory.read_config()[0].load_data()
    name, _ = chosen_model(
        directory, directory.read_json("metrics.json"), budget
    )
    ids, labels = data.test.ids[:], data.test.labels
    raw = _raw(data, ids)
    click.echo(f"{name}, {len(labels):,} rows")
    click.echo("| model | ids | raw values | AUC | table bytes | ms | ratio |")
    click.echo("|---|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        exports, served = {}, {}
        for each, quantize in (("dense", None), *((name, q) for q in _TYPES)):
            key = f"{each} {quantize or 'float32'}"
            model = directory.load_model(each)
            exports[key] = export_saved_model(
                model, Path(folder, key), data, quantize
            )
            served[key] = model, SavedModel(exports[key].path)
        times = _times(
            {key: runtime for key, (_, runtime) in served.items()}, raw
        )
        dense = next(iter(times.values()))
        for key, (model, runtime) in served.items():
            logits = metrics.predict(model, ids).reshape(-1).astype(np.float64)
            expected = 1 / (1 + np.exp(-logits))
            by_id = runtime("ids", {"ids": ids})["probability"]
            by_value = runtime("serving_default", raw)["probability"]
            auc = metrics.auc(labels, by_id) - metrics.auc(labels, expected)
            click.echo(
                f"| {key} | {np.abs(by_id - expected).max():.1e} "
                f"| {np.abs(by_value - expected).max():.1e} | {auc:+.7f} "
                f"| {exports[key].report['table_bytes']:,} "
                f"| {np.median(times[key]):.3f} "
                f"| {np.median(times[key] / dense):.2f} |"
            )


def _times(
    served: Mapping[str, SavedModel], raw: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Milliseconds of requests of 1,000 rows, without their copies."""
    random = np.random.default_rng(0)
    count = len(next(iter(raw.values())))
    times: dict[str, list[float]] = {key: [] for key in served}
    for _ in range(_REQUESTS):
        rows = random.integers(0, count, 1000)
        request = {field: values[rows] for field, values in raw.items()}
        for key, model in served.items():
            model("serving_default", request)
            times[key].append(1e3 * model.seconds)
    return {key: np.array(each) for key, each in times.items()}


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
