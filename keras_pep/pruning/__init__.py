"""Search, ticket, retrain."""

from keras_pep.pruning.callback import PEPRetraining
from keras_pep.pruning.collector import check_budgets
from keras_pep.pruning.distillation import soft_labels
from keras_pep.pruning.retraining import STARTS, pruned_model, retrain
from keras_pep.pruning.search import METHODS, BudgetNotReachedWarning, search
from keras_pep.pruning.ticket import Ticket, pep_layers

__all__ = [
    "METHODS",
    "STARTS",
    "BudgetNotReachedWarning",
    "PEPRetraining",
    "Ticket",
    "check_budgets",
    "pep_layers",
    "pruned_model",
    "retrain",
    "search",
    "soft_labels",
]
