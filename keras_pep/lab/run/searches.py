"""The searches of a default run, each for all sizes of as many columns."""

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
_WARM = "warm-search"
_ROWS_TO_TURN_BY = 2**14
_MOST_TURNS = 100
_TURNED_ENOUGH = 1e-6  # by how little the criterion rises
SEARCHED = (_PREFIX, _WARM, "search", "gradual-magnitude")


@dataclass
class Searches:
    """Searches of the dense table, or of a new one as wide as it is.

    Attributes:
        run: The run.
        dense: How the dense table is trained on what the run learns now.
        sizes: Those that are known; they share a search of as many columns.
        budgets: Entries of a size, by the method and columns of the table.
        found: Tickets of searches that are done, by their stages.
        held: Sum of squares of the entries that a size keeps, by columns.
        turns: Sparse rotation of the main columns, by their number.
    """

    run: Run
    dense: Training
    sizes: Sequence[Size]
    budgets: dict[tuple[str, Size, int], int] = field(default_factory=dict)
    found: dict[str, list[Ticket]] = field(default_factory=dict)
    held: dict[tuple[Size, int], float] = field(default_factory=dict)
    turns: dict[int, np.ndarray] = field(default_factory=dict)

    def columns(self, method: str, size: Size) -> int:
        """How many main columns of the dense table a method starts from.

        Of narrow ones more can be kept, of wide ones there is more choice.

        Args:
            method: Its name.
            size: What may be kept of them.
        """
        if method == _WARM:
            widest = self.dense.columns
            widths = {min(8 * 2**n, widest) for n in range(widest.bit_length())}
            return int(max(sorted(widths), key=partial(self._held, size)))
        source = preset("source_columns")
        if method not in source:
            return self.dense.columns
        uniform = math.ceil(size.per_row(self.run.dataset.feature_count))
        columns = source[method] * max(uniform, 1)
        if method == _PREFIX:
            columns = max(columns, preset("searched_columns"))
        return int(min(self.dense.columns, columns))

    def scattered(self, size: Size) -> bool:
        """Whether entries anywhere hold more of the dense table than prefixes.

        That is, the sum of their squares, in as many bytes.
        """
        table = self.main_columns(self.columns(_PREFIX, size))
        kept = table[size.in_bytes.largest(norms_of(table))]
        prefixes = float(np.square(kept, dtype=np.float64).sum())
        return self._held(size, self.columns(_WARM, size)) > prefixes

    def _held(self, size: Size, columns: int) -> float:
        """The sum of squares of the largest entries of sparse columns."""
        size = size.in_bytes
        if (size, columns) not in self.held:
            budget = size.searched(self.run.dataset.feature_count, columns)
            held = 0.0
            if budget:
                squares = np.square(self._start(_WARM, columns)).ravel()
                squares.partition(squares.size - budget)
                held = float(squares[-budget:].sum(dtype=np.float64))
            self.held[size, columns] = held
        return self.held[size, columns]

    def main_columns(self, columns: int) -> np.ndarray:
        """The first columns of the dense table, which matter most."""
        return self._rotated[:, :columns]

    @cached_property
    def _rotated(self) -> np.ndarray:
        model = self.run.directory.load_model(f"width-{self.dense.columns}")
        table = variables.values_of(model.embedding.embeddings)
        return main_columns(table, self.dense.columns)

    def _start(self, method: str, columns: int) -> np.ndarray:
        """Return the initial table of a search of main columns."""
        table = self.main_columns(columns)
        if method == _PREFIX:
            return table
        if columns not in self.turns:
            self.turns[columns] = sparse_rotation(table)
        turned: np.ndarray = table @ self.turns[columns]
        return turned

    def find(self, method: str, size: Size) -> Ticket | None:
        """Search, unless that is done.

        Args:
            method: `"search"` or `"gradual-magnitude"`, which start from
                initial values; `"prefix-search"`, which starts from the main
                columns of the dense table, or `"warm-search"`, which starts
                from them after a sparse rotation.
            size: Which size. Those that are known share a search if it has as
                many columns for them.

        Returns:
            What is to be retrained; None if there is nothing.
        """
        run, columns = self.run, self.columns(method, size)
        stage = f"search-{method}".removesuffix("-search")
        if method in (_PREFIX, _WARM):
            stage = f"{stage}-{columns}"
        sizes = [size]
        if size in self.sizes:
            sizes = [
                s for s in self.sizes if self.columns(method, s) == columns
            ]
        else:
            stage = f"{stage}-{size.name}"
        budgets = {each: self._budget(method, each, columns) for each in sizes}
        if not budgets[size]:
            return None
        if stage not in self.found:
            wanted = sorted({b for b in budgets.values() if b}, reverse=True)
            part = partial(self._search, stage, method, wanted, columns)
            found = run.attempt(stage, part)
            if found is None:
                return None
            self.found[stage] = found
        ticket = next(t for t in self.found[stage] if t.budget == budgets[size])
        if method == _PREFIX:
            # Sizes decide how many bytes it takes, and norms are not needed.
            table = self.main_columns(columns)
            model = build(run, self.dense.narrowed(columns), "pep")
            kept = np.where(ticket.tables[TABLE].mask(), norms_of(table), 0)
            ticket = ticket_of(model, table, size.largest(kept))
        if method in (_PREFIX, _WARM):
            ticket = replace(ticket, tables=_shrunk(ticket))
        return ticket

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
        columns: int,
    ) -> list[Ticket]:
        """Search a table for all of these budgets.

        Of gradual magnitude pruning, the tickets begin with what it has
        trained.
        """
        run, training = self.run, self.dense
        table = None
        if method in (_PREFIX, _WARM):
            table = self._start(method, columns)
            share = preset("warm_search_epochs")
            training = replace(
                training.narrowed(columns),
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
        _, tickets, _ = search_by_stage(
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
        return tickets


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


def sparse_rotation(table: np.ndarray) -> np.ndarray:
    """Find a rotation after which few entries of a row hold most of it.

    By the varimax criterion (Kaiser, 1958): the sum of fourth powers of
    entries, less those that columns of equal entries would have.

    Args:
        table: `(rows, columns)`; many rows are sampled.

    Returns:
        float32, `(columns, columns)`, orthogonal.
    """
    step = -(-len(table) // _ROWS_TO_TURN_BY)
    rows = table[::step].astype(np.float64)
    rotation, reached = np.eye(table.shape[1]), 0.0
    for _ in range(_MOST_TURNS):
        turned = rows @ rotation
        spread = np.square(turned).mean(axis=0)
        u, singular, v = np.linalg.svd(rows.T @ (turned**3 - turned * spread))
        rotation = u @ v
        if singular.sum() <= reached * (1 + _TURNED_ENOUGH):
            break
        reached = singular.sum()
    return rotation.astype(np.float32)
