"""The result of a search: which entries stay, and where they started."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_pep._keras_compat import layers_within
from keras_pep.files import check_archive, whole
from keras_pep.layers import variables
from keras_pep.layers.embedding import TableMixin
from keras_pep.layers.pep_embedding import PEPEmbedding, PEPEmbeddingMixin
from keras_pep.optimizers import catch_up
from keras_pep.runtime import weights_of
from keras_pep.sparse import SparseTable

_FORMAT = 1
_PARTS = ("values", "columns", "row_splits")  # of a table, in a file
_WEIGHTS = {"weights": "weights", "learned": "learned_weights"}


@dataclass(frozen=True, eq=False)
class Ticket:
    """A mask and initial values, stored compactly: a winning lottery ticket.

    Attributes:
        tables: Kept entries of every searched table, at their initial values,
            by the name of its layer.
        weights: Initial values of the model's other weights, trained or not,
            in the model's order.
        learned_values: Kept entries of every table as the search left them,
            in the order of those in `tables`.
        learned_weights: The other weights likewise.
        budget: How many entries were allowed to stay.
        step: Training step of the search at which so few were left.

    Example:

    ```python
    (ticket,) = keras_pep.search(model, train, budgets=[30_000], epochs=2)
    ticket.save("30000.ticket.npz")
    ticket = keras_pep.Ticket.load("30000.ticket.npz")
    print(ticket.embedding_parameters)  # 30_000
    ```

    Reference:
        - [Frankle & Carbin, 2019](https://arxiv.org/abs/1803.03635)
    """

    tables: Mapping[str, SparseTable] = field(repr=False)
    weights: Sequence[np.ndarray] = field(default=(), repr=False)
    learned_values: Mapping[str, np.ndarray] = field(
        default_factory=dict, repr=False
    )
    learned_weights: Sequence[np.ndarray] = field(default=(), repr=False)
    budget: int = 0
    step: int = 0

    @property
    def embedding_parameters(self) -> int:
        """Number of kept entries."""
        return sum(table.values.size for table in self.tables.values())

    @property
    def sparsity(self) -> float:
        """Pruned share of the tables, from 0 to 1."""
        size = sum(np.prod(table.shape) for table in self.tables.values())
        return 1.0 - self.embedding_parameters / float(size)

    @classmethod
    def from_model(
        cls,
        model: keras.Model,
        weights: Sequence[np.ndarray],
        budget: int,
        step: int,
        *,
        shrunk: bool = True,
    ) -> "Ticket":
        """The ticket of a model as it is pruned now.

        Args:
            model: A model with `PEPEmbedding` layers.
            weights: See the attributes, as are `budget` and `step`.
            budget: See the attributes.
            step: See the attributes.
            shrunk: Whether the learned values are those that are looked up,
                less their thresholds, or those of the table.
        """
        tables, learned = {}, {}
        catch_up(getattr(model, "optimizer", None))
        for layer in pep_layers(model):
            kept = layer.sparse()
            tables[layer.name] = kept.with_values_of(layer.initial_blocks())
            learned[layer.name] = (
                kept
                if shrunk
                else kept.with_values_of(layer.embedding_blocks())
            ).values
        return cls(
            tables=tables,
            weights=tuple(weights),
            learned_values=learned,
            learned_weights=values_of(other_weights(model, tables)),
            budget=budget,
            step=step,
        )

    def learned_tables(self) -> dict[str, SparseTable]:
        """Kept entries as the search left them.

        Raises:
            ValueError: If the ticket does not hold them.
        """
        if set(self.learned_values) != set(self.tables):
            raise ValueError(
                "The ticket holds initial values only, not the values that the "
                "search ended with: use start='rewind'."
            )
        return {
            name: table.with_values(self.learned_values[name])
            for name, table in self.tables.items()
        }

    def extended(self, rows: Mapping[str, np.ndarray]) -> "Ticket":
        """Carry the ticket over to tables that have other rows.

        Known rows keep their entries and values. New ones keep all columns, at
        zero: a place from which they are trained, until `cut` decides.

        Args:
            rows: By the name of its layer, the earlier row of each row of a
                table, -1 of a new one, -2 of one that is free, which keeps
                nothing; see `Vocabulary.ids_in`.

        Returns:
            A ticket of the tables alone, without other weights.

        Example:

        ```python
        (ticket,) = keras_pep.search(model, train, budgets=[30_000], epochs=2)
        later = ticket.extended({"embedding": np.append(np.arange(8_000), -1)})
        print(later.embedding_parameters)  # 30_000 and 16 of the new feature
        ```
        """
        first, last = (
            {n: t.moved(rows[n]) if n in rows else t for n, t in each.items()}
            for each in (
                self.tables,
                self.learned_tables() if self.learned_values else {},
            )
        )
        return Ticket(
            tables=first,
            learned_values={name: table.values for name, table in last.items()},
            budget=self.budget,
            step=self.step,
        )

    def save(self, path: str | Path) -> None:
        """Write an `.npz` file, whole or not at all."""
        arrays: dict[str, Any] = {}
        for number, (name, table) in enumerate(self.tables.items()):
            for part in _PARTS:
                arrays[f"{number}.{part}"] = getattr(table, part)
            if name in self.learned_values:
                arrays[f"{number}.learned"] = self.learned_values[name]
        for name, attribute in _WEIGHTS.items():
            for number, value in enumerate(getattr(self, attribute)):
                arrays[f"{name}.{number}"] = value
        header = {
            "format": _FORMAT,
            "budget": self.budget,
            "step": self.step,
            **{each: len(getattr(self, each)) for each in _WEIGHTS.values()},
            "tables": [
                {"name": name, "output_dim": table.output_dim}
                for name, table in self.tables.items()
            ],
        }
        with whole(Path(path)) as partial, partial.open("wb") as file:
            np.savez_compressed(file, header=json.dumps(header), **arrays)

    @classmethod
    def load(cls, path: str | Path) -> "Ticket":
        """Read what `save` wrote. The file is not trusted: nothing in it runs.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is not a ticket, or is damaged.
        """
        try:
            check_archive(Path(path))
            with (
                Path(path).open("rb") as file,
                np.load(file, allow_pickle=False) as arrays,
            ):
                header = json.loads(str(arrays["header"]))
                if header["format"] != _FORMAT:
                    raise ValueError(f"its format is {header['format']}")
                tables, learned = {}, {}
                for number, entry in enumerate(header["tables"]):
                    name = str(entry["name"])
                    parts = {n: arrays[f"{number}.{n}"] for n in _PARTS}
                    columns = int(entry["output_dim"])
                    tables[name] = SparseTable(**parts, output_dim=columns)
                    if f"{number}.learned" in arrays:
                        learned[name] = arrays[f"{number}.learned"]
                weights, learned_weights = (
                    tuple(
                        _compact(arrays[f"{name}.{number}"])
                        for number in range(header[count])
                    )
                    for name, count in _WEIGHTS.items()
                )
                return cls(
                    *(tables, weights, learned, learned_weights),
                    *(int(header["budget"]), int(header["step"])),
                )
        except FileNotFoundError:
            raise
        except Exception as error:  # NumPy lets through whatever it meets
            raise ValueError(
                f"{path} is not a keras-pep ticket that can be read: {error}"
            ) from error


def pep_layers(model: keras.Model) -> list[PEPEmbedding]:
    """The `PEPEmbedding` layers of a model, however deep, in its order.

    Raises:
        ValueError: If there is none, or two have the same name.

    Example:

    ```python
    for layer in keras_pep.pruning.pep_layers(model):
        print(layer.name, layer.nonzero_parameters())
    ```
    """
    layers = [
        layer
        for layer in layers_within(model)
        if isinstance(layer, PEPEmbeddingMixin)
    ]
    if not layers:
        raise ValueError(
            "The model has no `PEPEmbedding` layer, so there is nothing to "
            f"search. Received: model={model.name!r}"
        )
    names = [layer.name for layer in layers]
    if len(set(names)) < len(names):
        raise ValueError(
            "Every `PEPEmbedding` needs a name of its own, by which tickets "
            f"know its table. Received: {names}"
        )
    return layers


def other_weights(
    model: keras.Model, tables: Collection[str]
) -> list[keras.Variable]:
    """Weights that are not part of a searched table, or what became of it.

    Args:
        model: The searched model, or the pruned one.
        tables: Names of the layers that were searched.
    """
    searched = {
        id(weight)
        for layer in layers_within(model)
        if isinstance(layer, TableMixin) and layer.name in tables
        for weight in layer.weights
    }
    return [w for w in weights_of(model) if id(w) not in searched]


def values_of(weights: Sequence[keras.Variable]) -> tuple[np.ndarray, ...]:
    """Copies of the values of weights, of one number where all are alike.

    First-order weights begin at zero, and there are as many as features.
    """
    return tuple(_compact(variables.values_of(w)) for w in weights)


def _compact(values: np.ndarray) -> np.ndarray:
    """The same values, as a view of one number if all are alike."""
    first = values.reshape(-1)[:1]
    if values.size < 2 or (values != first).any():
        return values
    return np.broadcast_to(first[0], values.shape)
