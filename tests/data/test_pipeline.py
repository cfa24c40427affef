import numpy as np

from keras_pep.data import Split, batches


def split(rows=1000):
    ids = np.arange(rows, dtype=np.int32)
    return Split(np.stack([ids, ids], axis=1), (ids % 2).astype(np.float32))


def epoch(dataset):
    return [(x.numpy(), y.numpy()) for x, y in dataset]


def test_every_row_once_per_epoch_with_its_label():
    dataset = batches(split(), 64, seed=0)
    for _ in range(2):
        parts = epoch(dataset)
        assert len(parts) == len(dataset) == 16
        assert [len(x) for x, _ in parts] == [64] * 15 + [40]
        ids = np.concatenate([x for x, _ in parts])
        labels = np.concatenate([y for _, y in parts])
        assert sorted(ids[:, 0]) == list(range(1000))
        np.testing.assert_array_equal(labels[:, 0], ids[:, 0] % 2)


def test_orders_differ_between_epochs_and_follow_the_seed():
    dataset, same, other = (batches(split(), 64, seed) for seed in (0, 0, 1))
    first, second = epoch(dataset), epoch(dataset)
    assert not np.array_equal(first[0][0], second[0][0])
    np.testing.assert_array_equal(first[0][0], epoch(same)[0][0])
    np.testing.assert_array_equal(second[0][0], epoch(same)[0][0])
    assert not np.array_equal(first[0][0], epoch(other)[0][0])


def test_the_shuffle_is_exact():
    """Neighbours in the data end up anywhere: ranks are uncorrelated."""
    ids = np.concatenate([x[:, 0] for x, _ in epoch(batches(split(), 10, 0))])
    correlation = np.corrcoef(ids, np.arange(1000))[0, 1]
    assert abs(correlation) < 4 / np.sqrt(1000)  # four standard deviations


def test_the_end_of_an_epoch_does_not_wait_for_a_tuner():
    """Its thread sleeps for up to as long as the epoch took."""
    assert batches(split(), 64, 0).options().autotune.enabled is False
