"""`keras-pep evaluate`: the models of a run, on a split."""

from dataclasses import replace
from typing import Any

from keras_pep.lab.run.checked_json import finite
from keras_pep.lab.run.directory import RunDirectory, RunError
from keras_pep.lab.run.table import models_in
from keras_pep.metrics import evaluate


def evaluate_run(
    directory: RunDirectory, split: str = "test", data_dir: str | None = None
) -> dict[str, Any]:
    """Load the models of a run and compute their AUC and log-loss.

    Args:
        directory: The run.
        split: `"train"`, `"validation"` or `"test"`, of the run's own split.
        data_dir: Where the data are now, if not where they were.

    Returns:
        `metrics.json` with the split's figures as they are computed now.

    Raises:
        RunError: If the directory is not a run, a model of it is missing, or
            the data are not those of the run.
        DataError: If the data are missing or malformed.
    """
    metrics = directory.read_json("metrics.json")
    config, _ = directory.read_config()
    try:
        entries = models_in(metrics)
    except (KeyError, TypeError) as error:
        raise RunError(
            f"{directory.path / 'metrics.json'} is damaged, or of another "
            f"version of keras-pep: {error!r}."
        ) from error
    if data_dir is not None:
        config = replace(config, data_dir=data_dir)
    dataset = config.load_data()
    directory.check_data(dataset)
    rows = dataset.splits[split]
    for name, entry in entries.items():
        model = directory.load_model(name)
        # As `metrics.json` has them: what is no number is unknown.
        entry[split] = finite(
            evaluate(model, rows.ids, rows.labels, weights=rows.weights)
        )
    return metrics
