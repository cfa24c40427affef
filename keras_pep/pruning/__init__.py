"""Search, ticket, retrain."""

from keras_pep.pruning.budget import Schedule
from keras_pep.pruning.callback import PEPRetraining
from keras_pep.pruning.continuing import continued, cut, grown
from keras_pep.pruning.convert import convert
from keras_pep.pruning.distillation import soft_labels
from keras_pep.pruning.retraining import STARTS, pruned_model, retrain
from keras_pep.pruning.search import (
    METHODS,
    BudgetNotReachedWarning,
    prune,
    search,
)
from keras_pep.pruning.sizes import check_budgets, entries_of, number_of_bytes
from keras_pep.pruning.ticket import Ticket, pep_layers

__all__ = [
    "METHODS",
    "STARTS",
    "BudgetNotReachedWarning",
    "PEPRetraining",
    "Schedule",
    "Ticket",
    "check_budgets",
    "continued",
    "convert",
    "cut",
    "entries_of",
    "grown",
    "number_of_bytes",
    "pep_layers",
    "prune",
    "pruned_model",
    "retrain",
    "search",
    "soft_labels",
]
