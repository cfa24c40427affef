"""Later data go on from the vocabularies of earlier ones."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from keras_pep.data.dataset import DataError
from keras_pep.data.fields import Vocabulary

if TYPE_CHECKING:
    from keras_pep.data.prepare import Source


SEEN = "seen.parquet"
_FORGOTTEN = 0.01  # rows
_SCHEMA = pa.schema(
    {"field": pa.string(), "value": pa.large_string(), "times": pa.float64()}
)


class SeenWriter:
    """Writes how often training has seen each value of each field.

    Args:
        folder: Of the file, `seen.parquet`.
    """

    def __init__(self, folder: Path) -> None:
        # Python's file says why it cannot be written, as those of others do.
        self._file = (folder / SEEN).open("wb")
        self._writer = pa.parquet.ParquetWriter(self._file, _SCHEMA)

    def write(self, field: str, times: pa.Table) -> None:
        """Add the values of a field, `value` and `times`."""
        first = pa.array(np.zeros(times.num_rows, np.int64))
        names = pa.array([field]).take(first)
        self._writer.write_table(
            times.add_column(0, "field", names).cast(_SCHEMA)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        with self._file:
            self._writer.close()


def read_seen(path: Path) -> dict[str, dict[str, float]]:
    """Read what `SeenWriter` has written, by field."""
    table = pa.parquet.read_table(path)
    found = {}
    for name in table["field"].unique().to_pylist():
        part = table.filter(pa.compute.equal(table["field"], name))
        found[name] = _counts(part)
    return found


def _counts(times: pa.Table) -> dict[str, float]:
    pairs = (times[name].to_pylist() for name in ("value", "times"))
    return dict(zip(*pairs, strict=True))


@dataclass(frozen=True, eq=False)
class Earlier:
    """The vocabularies of earlier data, and how often values were seen.

    A value gets an id when it was seen in `min_count` training rows, those of
    earlier data counted less and less.

    Attributes:
        vocabularies: By field.
        seen: How often the values of each field were seen, with those that have
            no id yet; or the file that says so, `Dataset.seen`.
        decay: What an earlier row counts, of 1.
        evict_below: A value loses its id when it was seen less than this.

    Example:

    ```python
    field = keras_pep.data.Field("user", "user")
    users = keras_pep.data.Vocabulary(field, np.array(["ann"]), unknown=True)
    earlier = keras_pep.data.Earlier({"user": users}, {"user": {"ann": 12}})
    Path("today.csv").write_text("clicked,user\\n" + "0,ann\\n1,bob\\n" * 200)
    data = keras_pep.data.load(
        "today.csv", label="clicked", cache_dir="prepared", earlier=earlier
    )
    print(list(data.vocabularies["user"]))  # unknown, ann, bob
    ```
    """

    vocabularies: Mapping[str, Vocabulary]
    seen: Mapping[str, Mapping[str, float]] | Path = field(default_factory=dict)
    decay: float = 1.0
    evict_below: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.seen, Path):
            object.__setattr__(self, "seen", read_seen(self.seen))
        if not all(
            each.unknown or each.field.kind == "hash"
            for each in self.vocabularies.values()
        ):
            raise DataError(
                "The earlier data have no id for unknown values, as MovieLens "
                "and synthetic data have none: there can be no new ones. "
                "Expected: those of files."
            )

    def applied(self, source: "Source") -> "Source":
        """Read the fields of files as those of the earlier ones."""
        fields = tuple(each.field for each in self.vocabularies.values())
        split = source.split
        if split.by == "time" and not split.time_format:
            formats = [
                each.time_format
                for each in fields
                if each.column == split.column and each.time_format
            ]
            split = replace(split, time_format=next(iter(formats), ""))
        return replace(
            source,
            fields=fields,
            why=("as in the earlier data",) * len(fields),
            split=split,
            guessed=False,
            earlier=self,
        )

    def extended(
        self,
        name: str,
        times: pa.Table,
        min_count: float,
        max_values: int | None = None,
    ) -> tuple[Vocabulary, pa.Table]:
        """Go on with the vocabulary of a field.

        Args:
            name: The field.
            times: In how many training rows (`times`) each `value` occurs.
            min_count: In how many a new one must.
            max_values: How many may have an id; known ones keep theirs.

        Returns:
            The vocabulary, and how often values were seen, likewise.
        """
        assert not isinstance(self.seen, Path)
        # Not what is all but forgotten.
        seen = {
            value: self.decay * count
            for value, count in self.seen.get(name, {}).items()
            if self.decay * count > _FORGOTTEN
        }
        for value, count in _counts(times).items():
            seen[value] = seen.get(value, 0.0) + count
        known = self.vocabularies[name]
        counted = pa.table({"value": [*seen], "times": [*seen.values()]})
        settings = min_count, self.evict_below, max_values
        return known.extended(seen, *settings), counted

    def digest(self) -> str:
        """Changes when anything does."""
        content: list[Any] = [self.decay, self.evict_below, self.seen]
        content += [each.to_dict() for each in self.vocabularies.values()]
        return hashlib.sha256(repr(content).encode()).hexdigest()
