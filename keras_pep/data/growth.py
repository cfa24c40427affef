"""Later data go on from the vocabularies of earlier ones."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet

from keras_pep.data.dataset import DataError
from keras_pep.data.fields import Vocabulary

if TYPE_CHECKING:
    from keras_pep.data.source import Source


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

    def written(self, field: str, counts: Iterable[Any]) -> Iterator[Any]:
        """Write tables of the `value` and `times` of a field as they pass."""
        for table in counts:
            names = pa.repeat(field, table.num_rows)
            named = table.add_column(0, "field", names)
            self._writer.write_table(named.cast(_SCHEMA))
            yield table

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        with self._file:
            self._writer.close()


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

    def counts(self, name: str) -> Iterator[tuple[Any, np.ndarray]]:
        """Read how often the values of a field were seen, as they count now.

        Yields:
            A PyArrow array of values, and their counts; none of values that are
            all but forgotten.

        Raises:
            DataError: If the file is damaged.
        """
        for values, times in self._seen(name):
            now = self.decay * times
            yield (
                values.filter(pa.array(now > _FORGOTTEN)),
                now[now > _FORGOTTEN],
            )

    def _seen(self, name: str) -> Iterator[tuple[Any, np.ndarray]]:
        if not isinstance(self.seen, Path):
            seen = self.seen.get(name, {})
            values = pa.array([*seen], pa.large_string())
            yield values, np.array([*seen.values()], dtype=np.float64)
            return
        try:
            rows = pa.dataset.dataset(self.seen).to_batches(
                columns=["value", "times"],
                filter=pa.dataset.field("field") == name,
            )
            for part in rows:
                yield part["value"], part["times"].to_numpy()
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.seen}: damaged, {error}.") from error

    def digest(self) -> str:
        """Changes when anything does."""
        digest = hashlib.sha256(repr((self.decay, self.evict_below)).encode())
        if isinstance(self.seen, Path):
            with self.seen.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        else:
            digest.update(repr(self.seen).encode())
        for vocabulary in self.vocabularies.values():
            for part in vocabulary.json():
                digest.update(part.encode())
        return digest.hexdigest()
