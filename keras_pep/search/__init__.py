"""Search, ticket, retrain."""

from keras_pep.search.collector import check_budgets
from keras_pep.search.retraining import pruned_model, retrain
from keras_pep.search.search import METHODS, BudgetNotReachedWarning, search
from keras_pep.search.ticket import Ticket, pep_layers

__all__ = [
    "METHODS",
    "BudgetNotReachedWarning",
    "Ticket",
    "check_budgets",
    "pep_layers",
    "pruned_model",
    "retrain",
    "search",
]
