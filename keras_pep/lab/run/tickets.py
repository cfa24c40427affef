"""The tickets of a search, kept in the run directory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keras_pep.lab.run.directory import RunDirectory
from keras_pep.pruning.collector import TicketCollector


@dataclass
class KeptTickets:
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
        """Writes the tickets that have been taken since the last time."""
        tickets = self.collector.tickets
        for ticket in tickets[self._saved :]:
            self.directory.save_ticket(ticket, self.kind)
        self._saved = len(tickets)

    def state(self) -> dict[str, Any]:
        """That of the search, whose tickets are saved."""
        self.save()
        return self.collector.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a `state`."""
        tickets = [
            self.directory.load_ticket(budget, self.kind)
            for budget in state["tickets"]
        ]
        self._saved = len(tickets)
        self.collector.restore(state, tickets)
