"""Avazu's click-through rates, from `train` as Kaggle gave it.

A CSV with a header: `id`, `click`, `hour` as YYMMDDHH, and 21 categories.
"""

from pathlib import Path

from keras_pep.data import rows
from keras_pep.data.dataset import features_of
from keras_pep.data.fields import Field
from keras_pep.data.kaggle import only_file
from keras_pep.data.prepare import Source
from keras_pep.data.rows import Files

SOURCE = "https://www.kaggle.com/c/avazu-ctr-prediction"
FEATURES = ("paper", "full")

_NAMES = ("train", "train.csv", "train.gz", "train.csv.gz")
_HOUR = "%y%m%d%H"
CATEGORIES = (
    "C1",
    "banner_pos",
    "site_id",
    "site_domain",
    "site_category",
    "app_id",
    "app_domain",
    "app_category",
    "device_id",
    "device_ip",
    "device_model",
    "device_type",
    "device_conn_type",
    *(f"C{number}" for number in range(14, 22)),
)


def source(
    data_dir: str | Path | None, features: str | None, min_count: int
) -> Source:
    """Describe the files to prepare.

    Args:
        data_dir: The folder that holds `train` or `train.csv`, or one of them
            with `.gz`.
        features: `"paper"`: the hour as it is, which no later row has in
            common with these; or `"full"`, the default: hour of day and
            weekday in its place.
        min_count: Values in fewer training rows share one id of their field.

    Raises:
        DataError: If the file is missing, or names a column twice.
    """
    features = features_of("avazu", features, FEATURES)
    path = only_file("avazu", data_dir, _NAMES, SOURCE)
    files = Files((path,), quoted=False)
    rows.header(files)
    time = (
        (Field("hour", "hour"),)
        if features == "paper"
        else (
            Field("hour", "hour", "hour", time_format=_HOUR),
            Field("weekday", "hour", "weekday", time_format=_HOUR),
        )
    )
    return Source(
        name="avazu",
        features=features,
        files=files,
        label="click",
        fields=(*time, *(Field(name, name) for name in CATEGORIES)),
        min_count=min_count,
    )
