"""A whole run: dense baseline, search, retrain, evaluate, run directory."""

from keras_pep.run.config import Config
from keras_pep.run.directory import RunDirectory, RunError, checksum
from keras_pep.run.evaluate import evaluate_run
from keras_pep.run.interrupt import heard
from keras_pep.run.models import export_run, inspect_run, scorer_of_run
from keras_pep.run.table import aligned, results_table
from keras_pep.run.train import SEARCHED, resume, train

__all__ = [
    "SEARCHED",
    "Config",
    "RunDirectory",
    "RunError",
    "aligned",
    "checksum",
    "evaluate_run",
    "export_run",
    "heard",
    "inspect_run",
    "results_table",
    "resume",
    "scorer_of_run",
    "train",
]
