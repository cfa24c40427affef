"""Files and fields to prepare, and how their rows are taken."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from keras_pep.data.fields import Field
from keras_pep.data.rows import Files
from keras_pep.data.splits import Rule

if TYPE_CHECKING:
    from keras_pep.data.growth import Earlier

OWN = "own"  # the feature set of files that have none by name


@dataclass(frozen=True, kw_only=True)
class Source:
    """Files, and what is to be made of them.

    Attributes:
        name: Of the dataset.
        features: Which of its feature sets.
        files: The rows.
        label: The column of labels.
        fields: The fields.
        positive: Which labels are positive; see `labels.parsed`.
        weight: The column of weights, if examples have some.
        min_count: Values that occur in fewer training rows share one id; below
            1 it is a share of these rows.
        max_values: How many values of a field have an id, the most frequent.
        vocabularies: Names of fields, and the files of their values.
        split: Which rows are for training, validation and test.
        guessed: Whether the columns were not named, so that those of no use
            are left out.
        notes: What somebody might not expect of how columns are taken.
        why: Of each field why it is of its kind.
        left_out: Columns that are not read, and why.
        earlier: The data that these go on from.
    """

    name: str
    features: str
    files: Files
    label: str
    fields: tuple[Field, ...]
    positive: str = ""
    weight: str = ""
    min_count: float = 10
    max_values: int | None = None
    vocabularies: tuple[tuple[str, Path], ...] = ()
    split: Rule = field(default_factory=Rule)
    guessed: bool = False
    notes: tuple[str, ...] = ()
    why: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    earlier: "Earlier | None" = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read, each once."""
        names = (self.label, *(field.column for field in self.fields))
        weight = filter(None, [self.weight])
        return tuple(dict.fromkeys((*names, *weight, *self.split_columns)))

    @property
    def split_columns(self) -> tuple[str, ...]:
        """The column that rows are split by, if there is one."""
        return (self.split.column,) if self.split.column else ()
