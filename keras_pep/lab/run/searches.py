"""The searches of a default run: each is run once for all sizes that fit it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from keras_pep.lab.presets import preset
from keras_pep.lab.run.runner import Run
from keras_pep.lab.run.searching import search_by_stage
from keras_pep.lab.run.size import Size
from keras_pep.lab.run.tuning import Training, build, tell
from keras_pep.layers import variables
from keras_pep.pruning import Ticket
from keras_pep.pruning.continuing import norms_of
from keras_pep.pruning.ticket import other_weights, values_of
from keras_pep.sparse import SparseTable

TABLE = "embedding"
_PREFIX = "prefix-search"
_WARM = (_PREFIX, "warm-search")
SEARCHED = (*_WARM, "search", "gradual-magnitude")


@dataclass
class Searches:
    """Searches of the dense table, or of a new one as wide as it is.

    Attributes:
        run: The run.
        dense: How the dense table is trained on what the run learns now.
        sizes: Those that are known; they share a search.
        budgets: Entries of a size, by the method and columns of the table.
    """

    run: Run
    dense: Training
    sizes: Sequence[Size]
    budgets: dict[tuple[str, Size, int], int] = field(default_factory=dict)

    def columns(self, method: str, size: Size) -> int:
        """How many main columns of the dense table a method starts from.

        Of narrow ones more can be kept, of wide ones there is more choice.

        Args:
            method: A method, one of those that start from trained columns.
            size: What may be kept of them.
        """
        uniform = max(
            math.ceil(size.per_row(self.run.dataset.feature_count)), 1
        )
        columns = preset("source_columns")[method] * uniform
        if method in _WARM:
            columns = max(columns, preset("searched_columns"))
        return int(min(self.dense.columns, columns))

    def main_columns(self, columns: int) -> np.ndarray:
        """The first columns of the dense table, which matter most."""
        return self._rotated[:, :columns]

    @cached_property
    def _rotated(self) -> np.ndarray:
        model = self.run.directory.load_model(f"width-{self.dense.columns}")
        table = variables.values_of(model.embedding.embeddings)
        return main_columns(table, self.dense.columns)

    def find(self, method: str, size: Size) -> tuple[Any, Ticket] | None:
        """Search, unless that is done.

        Args:
            method: `"search"` or `"gradual-magnitude"`, which start from
                initial values, `"prefix-search"` or `"warm-search"`, which
                start from the main columns of the dense table.
            size: Which size. Those that are known share a search.

        Returns:
            The model to retrain and the ticket; None if there is none.
        """
        run, together = self.run, size in self.sizes
        sizes = self.sizes if together else [size]
        columns, table = self.dense.columns, None
        if method in _WARM:
            columns = max(self.columns(method, each) for each in sizes)
            table = self.main_columns(columns)
        budgets = {each: self._budget(method, each, columns) for each in sizes}
        if not budgets[size]:
            return None
        stage = f"search-{method}".removesuffix("-search")
        if not together:
            stage = f"{stage}-{size.name}"
        wanted = sorted({b for b in budgets.values() if b}, reverse=True)
        part = partial(self._search, stage, method, wanted, table)
        found = run.attempt(stage, part)
        if found is None:
            return None
        model, tickets = found
        ticket = next(t for t in tickets if t.budget == budgets[size])
        if method == _PREFIX:
            # Sizes decide how many bytes it takes, and norms are not needed.
            assert table is not None
            model = build(run, self.dense.narrowed(columns), "pep")
            kept = np.where(ticket.tables[TABLE].mask(), norms_of(table), 0)
            ticket = ticket_of(model, table, size.largest(kept))
        if method in _WARM:
            ticket = replace(ticket, tables=_shrunk(ticket))
        return model, ticket

    def _budget(self, method: str, size: Size, columns: int) -> int:
        """How many entries of a table a size has; 0 if none or all."""
        key, rows = (method, size, columns), self.run.dataset.feature_count
        if key not in self.budgets:
            budget = size.searched(rows, columns)
            if method == _PREFIX:
                norms = norms_of(self.main_columns(columns))
                budget = int(size.largest(norms).sum())
            self.budgets[key] = budget if budget < rows * columns else 0
        return self.budgets[key]

    def _search(
        self,
        stage: str,
        method: str,
        budgets: Sequence[int],
        table: np.ndarray | None,
    ) -> tuple[Any, list[Ticket]]:
        """Search a table, from its initial values or those given.

        Of gradual magnitude pruning, the tickets begin with what it has
        trained.
        """
        run, training = self.run, self.dense
        if table is not None:
            share = preset("warm_search_epochs")
            training = replace(
                training.narrowed(table.shape[1]),
                rate=preset("warm_search_rate") * training.rate,
                epochs=math.ceil(share * training.epochs),
            )

        def made() -> Any:
            embedding = "prefix" if method == _PREFIX else "pep"
            model = build(run, training, embedding, falling=False)
            if table is not None:
                model.embedding.begin_with(table)
            return model

        done, gradual = stage in run.stages, method == "gradual-magnitude"
        kind = method if gradual else "budget"
        model, tickets, _ = search_by_stage(
            run, stage, stage, made, kind, budgets, training.epochs
        )
        if gradual:
            tickets = [
                replace(
                    ticket,
                    tables=ticket.learned_tables(),
                    weights=ticket.learned_weights,
                )
                for ticket in tickets
            ]
        if not done:
            kept = tickets[-1].budget
            tell(stage, training, run.stage.history, kept, search=True)
        return model, tickets


def ticket_of(model: Any, table: np.ndarray, mask: np.ndarray) -> Ticket:
    """Make a ticket of what is kept of initial values.

    Args:
        model: Its other weights are those of the ticket.
        table: The values, `(rows, columns)`.
        mask: Which of them are kept.
    """
    return Ticket(
        tables={TABLE: SparseTable.from_dense(table, mask)},
        weights=values_of(other_weights(model, [TABLE])),
        budget=int(mask.sum()),
    )


def _shrunk(ticket: Ticket) -> dict[str, SparseTable]:
    """The tables of a ticket at a share of their values."""
    share = np.float32(preset("warm_share"))
    return {
        name: table.with_values(share * table.values)
        for name, table in ticket.tables.items()
    }


def main_columns(table: np.ndarray, columns: int) -> np.ndarray:
    """Rotate a table: its first columns hold most of it.

    By the eigenvectors of its second moments, which changes no inner product
    of rows.

    Args:
        table: `(rows, output_dim)`.
        columns: How many are wanted.

    Returns:
        float32 `(rows, columns)`.
    """
    moments = table.T.astype(np.float64) @ table
    rotation = np.linalg.eigh(moments)[1][:, ::-1][:, :columns]
    return table @ rotation.astype(np.float32)
