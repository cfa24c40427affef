"""A search as a stage of a run: its tickets are files."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras_pep.data import Split
from keras_pep.lab.baselines import BudgetedTable, GradualMagnitude
from keras_pep.lab.run.directory import RunDirectory
from keras_pep.lab.run.progress import KeptOverSteps
from keras_pep.lab.run.results import seconds
from keras_pep.lab.run.runner import Run
from keras_pep.pruning import BudgetNotReachedWarning, Ticket
from keras_pep.pruning.collector import TicketCollector
from keras_pep.pruning.search import collect, make_collector

Searched = tuple[Any, list[Ticket], Mapping[str, Any]]


def search_by_stage(
    run: Run,
    stage: str,
    kind: str,
    made: Callable[[], Any],
    method: str,
    budgets: Sequence[int],
    epochs: int,
    rows: Split | None = None,
) -> Searched:
    """Search for a ticket of each budget: `<kind>-<budget>.ticket.npz`.

    Args:
        run: The run.
        stage: Name of the stage.
        kind: What the names of tickets begin with.
        made: Makes the model.
        method: See `keras_pep.search`; or `"gradual-magnitude"` or `"bet"`.
        budgets: Those asked for.
        epochs: Length of the search.
        rows: What is learned, by default that of the run.

    Returns:
        A model to retrain, the tickets, and the figures of the search.
    """
    model = made()

    def train() -> dict[str, Any]:
        collector: TicketCollector
        if method == "gradual-magnitude":
            collector = GradualMagnitude(budgets, epochs)
        elif method == "bet":
            collector = BudgetedTable(budgets, epochs, run.dataset)
        else:
            collector = make_collector(method, budgets, epochs)
        kept = _KeptTickets(collector, run.directory, kind)
        over_steps = KeptOverSteps(collector, stage, run.stage.kept)
        batches, arguments = run.training(
            *(stage, run.rows if rows is None else rows, epochs, over_steps),
            parts=[kept, over_steps],
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BudgetNotReachedWarning)
            collect(model, collector, batches, **arguments)
        kept.save()
        return {
            "steps": collector.step,
            "seconds": seconds(run.stage.history),
            "embedding_parameters": collector.kept,
            "budgets": [ticket.budget for ticket in collector.tickets],
        }

    result = run.do(stage, train)
    load = run.directory.load_ticket
    return model, [load(b, kind) for b in result["budgets"]], result


@dataclass
class _KeptTickets:
    """A search, with its tickets in the run directory.

    Attributes:
        collector: The search.
        directory: Where tickets are.
        kind: What their names begin with.
    """

    collector: TicketCollector
    directory: RunDirectory
    kind: str
    _saved: int = 0

    def save(self) -> None:
        """Write the tickets that have been taken since the last time."""
        tickets = self.collector.tickets
        for ticket in tickets[self._saved :]:
            self.directory.save_ticket(ticket, self.kind)
        self._saved = len(tickets)

    def state(self) -> dict[str, Any]:
        """The state of the search, whose tickets are saved."""
        self.save()
        return self.collector.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        load = self.directory.load_ticket
        tickets = [load(budget, self.kind) for budget in state["tickets"]]
        self._saved = len(tickets)
        self.collector.restore(state, tickets)
