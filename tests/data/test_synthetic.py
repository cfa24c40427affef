import numpy as np

from keras_pep import data
from keras_pep.data import synthetic


def test_everything_follows_from_the_seed():
    one, same, other = (
        synthetic.generate(seed, rows=2000) for seed in (1, 1, 2)
    )
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()
    np.testing.assert_array_equal(one.planted_sizes, same.planted_sizes)


def test_shape():
    dataset = data.load("synthetic", seed=3)
    assert dataset.field_sizes == tuple(synthetic.FIELDS.values())
    assert (
        len(dataset.planted_sizes)
        == dataset.feature_count
        == sum(synthetic.FIELDS.values())
    )
    assert set(dataset.planted_sizes) == set(synthetic.SIZES)
    for split in dataset.splits.values():
        assert (split.ids >= 0).all()
        assert (split.ids < dataset.field_sizes).all()
        assert 0.4 < split.labels.mean() < 0.6


def test_popular_features_tend_to_be_larger_but_only_tend_to():
    dataset = data.load("synthetic")
    users = synthetic.FIELDS["user"]
    popular, rare = (
        dataset.planted_sizes[: users // 2].mean(),
        dataset.planted_sizes[users // 2 : users].mean(),
    )
    assert popular > 1.5 * rare
    # Otherwise finding popular features would do for finding the sizes.
    ranks = np.argsort(np.argsort(dataset.counts()))
    assert 0.3 < np.corrcoef(ranks, dataset.planted_sizes)[0, 1] < 0.6


def test_description():
    lines = str(synthetic.generate(0, rows=2000)).splitlines()
    assert lines[0] == "synthetic, features planted"
    assert lines[1].startswith("rows: train 1,600 (")
    assert lines[2].startswith("features: 1,427 in 5 fields (user 600, ")
