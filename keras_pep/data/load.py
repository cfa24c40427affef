"""One door to all datasets."""

from pathlib import Path

from keras_pep.data import movielens, synthetic
from keras_pep.data.dataset import DataError, Dataset

NAMES = ("movielens", "synthetic")


def load(
    name: str,
    data_dir: str | Path | None = None,
    *,
    features: str = "full",
    seed: int = 0,
    max_bad_rows: float = 0.001,
) -> Dataset:
    """Loads a dataset and splits it 80/10/10 at random.

    Args:
        name: `"movielens"` (MovieLens-1M) or `"synthetic"`.
        data_dir: Folder with the dataset's files as they are downloaded; not
            used by `"synthetic"`.
        features: Feature set of MovieLens, `"paper"` or `"full"`.
        seed: Of the split, and of all that `"synthetic"` makes up.
        max_bad_rows: Share of malformed rows that is tolerated.

    Raises:
        DataError: If there is no such dataset, or its files are missing or
            not as they should be.
    """
    if name == "movielens":
        return movielens.load(data_dir, features, seed, max_bad_rows)
    if name == "synthetic":
        return synthetic.generate(seed)
    raise DataError(f"No dataset {name!r}; there are {', '.join(NAMES)}.")
