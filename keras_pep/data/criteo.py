"""Criteo's Display Advertising Challenge, from `train.txt` as Kaggle gave it.

Tab-separated, no header: the label, 13 integers, 26 categories. The preparation
is that of the PEP authors, but for the counts, which they took over all rows,
test rows too.
"""

from dataclasses import replace
from pathlib import Path

from keras_pep.data.dataset import features_of
from keras_pep.data.fields import Field
from keras_pep.data.kaggle import only_file
from keras_pep.data.prepare import Source
from keras_pep.data.rows import Files

SOURCE = "https://www.kaggle.com/c/criteo-display-ad-challenge"
FEATURES = ("paper",)

_NAMES = ("train.txt", "train.txt.gz")
INTEGERS = tuple(f"I{number}" for number in range(1, 14))
CATEGORIES = tuple(f"C{number}" for number in range(1, 27))
# How the files are written; `test.txt` is without the label.
FORM = Files(
    (), names=("label", *INTEGERS, *CATEGORIES), delimiter="\t", quoted=False
)


def source(
    data_dir: str | Path | None, features: str | None, min_count: int
) -> Source:
    """Describe the file to prepare.

    Args:
        data_dir: The folder that holds `train.txt` or `train.txt.gz`.
        features: `"paper"`, or None for it.
        min_count: Values in fewer training rows share one id of their field.

    Raises:
        DataError: If the file is missing.
    """
    return Source(
        name="criteo",
        features=features_of("criteo", features, FEATURES),
        files=replace(
            FORM, paths=(only_file("criteo", data_dir, _NAMES, SOURCE),)
        ),
        label="label",
        fields=(
            *(Field(name, name, "log") for name in INTEGERS),
            *(Field(name, name) for name in CATEGORIES),
        ),
        min_count=min_count,
    )
