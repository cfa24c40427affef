"""Criteo's Display Advertising Challenge, from `train.txt` as Kaggle gave it.

Tab-separated, no header: the label, 13 integers, 26 categories. The preparation
is that of the PEP authors, but for the counts, which they took over all rows,
test rows too.
"""

from pathlib import Path

from keras_pep.data.dataset import DataError
from keras_pep.data.fields import Field
from keras_pep.data.prepare import Source
from keras_pep.data.rows import Files

SOURCE = "https://www.kaggle.com/c/criteo-display-ad-challenge"
FEATURES = ("paper",)

_NAMES = ("train.txt", "train.txt.gz")
INTEGERS = tuple(f"I{number}" for number in range(1, 14))
CATEGORIES = tuple(f"C{number}" for number in range(1, 27))


def source(
    data_dir: str | Path | None, features: str | None, min_count: int
) -> Source:
    """What to prepare.

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
        files=Files(
            (only_file("criteo", data_dir, _NAMES, SOURCE),),
            names=("label", *INTEGERS, *CATEGORIES),
            delimiter="\t",
            quoted=False,
        ),
        label="label",
        fields=(
            *(Field(name, name, "log") for name in INTEGERS),
            *(Field(name, name) for name in CATEGORIES),
        ),
        min_count=min_count,
    )


def features_of(name: str, features: str | None, known: tuple[str, ...]) -> str:
    """The feature set that is asked for; by default the last.

    Raises:
        DataError: If there is no such set.
    """
    if features is not None and features not in known:
        raise DataError(
            f"{name} has the feature sets {', '.join(known)}, not {features!r}."
        )
    return features or known[-1]


def only_file(
    name: str,
    data_dir: str | Path | None,
    names: tuple[str, ...],
    where: str,
) -> Path:
    """The one file of a dataset that has only one.

    Raises:
        DataError: If it is not there.
    """
    get_it = (
        f"Get it from {where}, and name the folder with --data-dir (in "
        "Python: data_dir=)."
    )
    if data_dir is None:
        raise DataError(f"{name} needs its folder. {get_it}")
    for file in names:
        path = Path(data_dir) / file
        if path.is_file():
            return path
    raise DataError(
        f"{data_dir}: found none of {', '.join(names)}, expected one. {get_it}"
    )
