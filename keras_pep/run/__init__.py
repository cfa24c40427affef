"""A whole run: dense baseline, search, retrain, evaluate, run directory."""

from keras_pep.run.config import Config
from keras_pep.run.directory import RunDirectory, RunError
from keras_pep.run.evaluate import evaluate_run
from keras_pep.run.table import results_table
from keras_pep.run.train import SEARCHED, train

__all__ = [
    "SEARCHED",
    "Config",
    "RunDirectory",
    "RunError",
    "evaluate_run",
    "results_table",
    "train",
]
