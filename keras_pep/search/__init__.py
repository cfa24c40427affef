"""Search, ticket, retrain."""

from keras_pep.search.callback import PEPRetraining
from keras_pep.search.collector import check_budgets
from keras_pep.search.distillation import soft_labels
from keras_pep.search.retraining import STARTS, pruned_model, retrain
from keras_pep.search.search import METHODS, BudgetNotReachedWarning, search
from keras_pep.search.ticket import Ticket, pep_layers

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
