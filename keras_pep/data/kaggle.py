"""Files of the two datasets from Kaggle."""

from pathlib import Path

from keras_pep.data.dataset import DataError


def only_file(
    name: str,
    data_dir: str | Path | None,
    names: tuple[str, ...],
    where: str,
) -> Path:
    """Find the file of a dataset that has only one.

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
