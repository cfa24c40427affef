"""A whole run: dense baseline, search, retrain, evaluate, run directory."""

from keras_pep.lab.run.checked_json import parse_checked_json
from keras_pep.lab.run.config import Config
from keras_pep.lab.run.directory import RunDirectory, RunError
from keras_pep.lab.run.evaluate import evaluate_run
from keras_pep.lab.run.interrupt import handle_sigint
from keras_pep.lab.run.models import (
    export_run,
    exported,
    inspect_run,
    scorer_of_run,
)
from keras_pep.lab.run.table import (
    advice,
    continued_line,
    failed_parts,
    results_table,
)
from keras_pep.lab.run.train import resume, train
from keras_pep.lab.run.workers import WorkerLostError, Workers

__all__ = [
    "Config",
    "RunDirectory",
    "RunError",
    "WorkerLostError",
    "Workers",
    "advice",
    "continued_line",
    "evaluate_run",
    "export_run",
    "exported",
    "failed_parts",
    "handle_sigint",
    "inspect_run",
    "parse_checked_json",
    "results_table",
    "resume",
    "scorer_of_run",
    "train",
]
