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
        dataset = movielens.load(data_dir, features, seed, max_bad_rows)
    elif name == "synthetic":
        dataset = synthetic.generate(seed)
    else:
        raise DataError(f"No dataset {name!r}; there are {', '.join(NAMES)}.")
    for split_name, split in dataset.splits.items():
        if not 0 < split.labels.sum() < len(split):
            raise DataError(
                f"{dataset.name}: found {len(split):,} rows for {split_name}, "
                f"{int(split.labels.sum()):,} of them positive, expected some "
                "of either kind: there is nothing to learn or to measure."
            )
    return dataset
