"""A dataset whose right answer is known: the embedding size of each feature.

Shaped like MovieLens: a few fields from very large to very small, features of
Zipf-like popularity. Every feature has a planted vector with 0 to 16 non-zero
dimensions, and a label is drawn from the factorization machine of these
vectors. Popular features tend to have more dimensions, but only tend to, so
that popularity alone does not give the sizes away.
"""

import numpy as np

from keras_pep.data.dataset import Dataset, Split, random_split, unseen_ids
from keras_pep.data.fields import Field, Vocabulary

FIELDS = {"user": 600, "item": 400, "zip": 300, "genres": 120, "age": 7}
SIZES = (0, 1, 2, 4, 8, 16)

_ZIPF = 0.8  # popularity falls with rank to this power
_DISORDER = 0.7  # deviation of log-popularity in the order of sizes
_SIGNAL = 2.0  # deviation of the logits


def generate(seed: int = 0, rows: int = 250_000) -> Dataset:
    """Draws a dataset.

    Args:
        seed: The same seed gives the same dataset.
        rows: Number of rows, of all splits together.

    Returns:
        Dataset with `planted_sizes`.
    """
    random = np.random.default_rng(seed)
    columns, sizes = [], []
    total = np.zeros((rows, max(SIZES)))
    squares = np.zeros((rows, max(SIZES)))
    for count in FIELDS.values():
        popularity = np.arange(1, count + 1) ** -_ZIPF
        ids = random.choice(count, rows, p=popularity / popularity.sum())
        size = _planted_sizes(random, popularity)
        planted = np.arange(max(SIZES)) < size[:, None]
        vectors = random.normal(size=planted.shape) * planted
        columns.append(ids)
        sizes.append(size)
        total += vectors[ids]
        squares += vectors[ids] ** 2
    pairs = (total**2 - squares).sum(axis=1) / 2
    logits = pairs * _SIGNAL / pairs.std()
    labels = random.random(rows) < 1 / (1 + np.exp(-logits))
    train, validation, test = random_split(
        Split(
            np.stack(columns, axis=1).astype(np.int32),
            labels.astype(np.float32),
        ),
        seed,
    )
    return Dataset(
        name="synthetic",
        features="planted",
        train=train,
        validation=validation,
        test=test,
        vocabularies={
            name: Vocabulary(
                Field(name, name),
                np.array([f"{name}-{number}" for number in range(count)]),
            )
            for name, count in FIELDS.items()
        },
        unseen=unseen_ids(train, test, tuple(FIELDS)),
        planted_sizes=np.concatenate(sizes),
    )


def _planted_sizes(
    random: np.random.Generator, popularity: np.ndarray
) -> np.ndarray:
    """Sizes of the features, each equally often, by noisy popularity."""
    noise = random.normal(0.0, _DISORDER, popularity.size)
    rank = np.argsort(np.argsort(np.log(popularity) + noise))
    return np.array(SIZES)[rank * len(SIZES) // popularity.size]
