"""Criteo's and Avazu's click-through rates, from their files by Kaggle.

Criteo's Display Advertising Challenge: tab-separated, no header; the label, 13
integers, 26 categories. The preparation is that of the PEP authors, but for the
counts, which they took over all rows, test rows too.

Avazu: a CSV with a header; `id`, `click`, `hour` as YYMMDDHH, 21 categories.
"""

from dataclasses import replace
from pathlib import Path

from keras_pep.data import rows
from keras_pep.data.dataset import DataError, features_of
from keras_pep.data.fields import Field
from keras_pep.data.rows import Files
from keras_pep.data.source import Source
from keras_pep.data.splits import Rule

_KAGGLE = "https://www.kaggle.com/c"
INTEGERS = tuple(f"I{number}" for number in range(1, 14))
CATEGORIES = tuple(f"C{number}" for number in range(1, 27))
# How Criteo's files are written; `test.txt` is without the label.
CRITEO = Files(
    (), names=("label", *INTEGERS, *CATEGORIES), delimiter="\t", quoted=False
)
_HOUR = "%y%m%d%H"
_AVAZU = (
    *("C1", "banner_pos", "site_id", "site_domain", "site_category"),
    *("app_id", "app_domain", "app_category"),
    *("device_id", "device_ip", "device_model", "device_type"),
    *("device_conn_type", *(f"C{number}" for number in range(14, 22))),
)


def criteo(
    data_dir: str | Path | None,
    features: str | None,
    min_count: float,
    split: str = "random",
) -> Source:
    """Describe the file to prepare.

    Args:
        data_dir: The folder that holds `train.txt` or `train.txt.gz`.
        features: `"paper"`, or None for it.
        min_count: Values in fewer training rows share one id of their field.
        split: `"random"`, or `"time"`: by the order of the rows, which is that
            of seven days.

    Raises:
        DataError: If the file is missing.
    """
    features = features_of("criteo", features, ("paper",))
    where = f"{_KAGGLE}/criteo-display-ad-challenge"
    path = _only_file("criteo", data_dir, where, "train.txt", "train.txt.gz")
    return Source(
        name="criteo",
        features=features,
        files=replace(CRITEO, paths=(path,)),
        label="label",
        fields=(
            *(Field(name, name, "log") for name in INTEGERS),
            *(Field(name, name) for name in CATEGORIES),
        ),
        min_count=min_count,
        split=Rule("order" if split == "time" else split),
    )


def avazu(
    data_dir: str | Path | None,
    features: str | None,
    min_count: float,
    split: str = "random",
) -> Source:
    """Describe the file to prepare.

    Args:
        data_dir: The folder that holds `train` or `train.csv`, or one of them
            with `.gz`.
        features: `"paper"`: the hour as it is, which no later row has in
            common with these; or `"full"`, the default: hour of day and
            weekday in its place.
        min_count: Values in fewer training rows share one id of their field.
        split: `"random"`, or `"time"`: by the hour; that in which a share ends
            is divided at random.

    Raises:
        DataError: If the file is missing, or names a column twice.
    """
    features = features_of("avazu", features, ("paper", "full"))
    names = ("train", "train.csv", "train.gz", "train.csv.gz")
    where = f"{_KAGGLE}/avazu-ctr-prediction"
    files = Files((_only_file("avazu", data_dir, where, *names),), quoted=False)
    rows.header(files)
    time = [Field("hour", "hour")]
    if features == "full":
        time = [
            Field(part, "hour", part, time_format=_HOUR)
            for part in ("hour", "weekday")
        ]
    return Source(
        name="avazu",
        features=features,
        files=files,
        label="click",
        fields=(*time, *(Field(name, name) for name in _AVAZU)),
        min_count=min_count,
        split=Rule("time", "hour", _HOUR, divides=True)
        if split == "time"
        else Rule(),
    )


def _only_file(
    name: str, data_dir: str | Path | None, where: str, *names: str
) -> Path:
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
