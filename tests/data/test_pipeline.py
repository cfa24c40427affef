import time
import warnings

import numpy as np
import pytest

from keras_pep.data import Batches, Split, batches, pipeline
from keras_pep.data.stored import StoredColumns
from tests.data import epochs


def split(rows=1000):
    ids = np.arange(rows, dtype=np.int32)
    return Split(np.stack([ids, ids], axis=1), (ids % 2).astype(np.float32))


def epoch(dataset):
    return [(np.asarray(x), np.asarray(y)) for x, y in dataset]


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


@pytest.mark.requires_tensorflow
def test_the_end_of_an_epoch_does_not_wait_for_a_tuner():
    """Its thread sleeps for up to as long as the epoch took."""
    assert batches(split(), 64, 0).options().autotune.enabled is False


def assert_same(ones, others):
    assert len(ones) == len(others)
    for (ids, labels), (other_ids, other_labels) in zip(
        ones, others, strict=True
    ):
        np.testing.assert_array_equal(ids, other_ids)
        np.testing.assert_array_equal(labels, other_labels)


@pytest.mark.parametrize("position", [0, 5, 16, 20])
def test_a_plain_loop_sees_the_same_batches_and_can_be_taken_up_again(position):
    whole = Batches(split(), 64, seed=3)
    expected = [*whole, *whole]
    dataset = batches(split(), 64, 3, position)
    assert_same(
        [*epoch(dataset), *epoch(dataset)][: 32 - position], expected[position:]
    )
    rest = Batches(split(), 64, 3, position)
    assert_same([*rest, *rest][: 32 - position], expected[position:])

    stopped = Batches(split(), 64, seed=3)
    for count, after in ((7, 0), (15, 0), (16, 16)):
        seen = [batch for _, batch in zip(range(count), stopped, strict=False)]
        assert_same(seen, expected[:count])
        assert stopped.position == after


def two_blocks(patch):
    """Have windows of two blocks of 128 rows."""
    patch.setattr(pipeline, "_BLOCK", 128)
    patch.setattr(pipeline, "_WINDOW", 2)


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """Record what loops and `fit` read."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        # Keras leaves the order of a `tf.data.Dataset` as it is.
        warnings.filterwarnings("ignore", "`shuffle=True` was passed")
        two_blocks(patch)
        return epochs.read_everywhere(tmp_path_factory.mktemp("epochs"))


def batches_in_order(split):
    """The first ids of all batches of four epochs, as the windows have them."""
    source = Batches(split, epochs.SIZE, epochs.SEED)
    found = []
    for epoch in range(4):
        ids = np.concatenate(
            [
                ids[order, 0]
                for ids, _, order in (
                    source.window(epoch, number)
                    for number in range(source.windows)
                )
            ]
        )
        assert sorted(ids) == list(range(epochs.ROWS))
        found += [
            ids[start : start + epochs.SIZE].tolist()
            for start in range(0, epochs.ROWS, epochs.SIZE)
        ]
    assert found[:16] != found[16:32]
    return found


@pytest.fixture
def ordered(place, tmp_path, monkeypatch):
    two_blocks(monkeypatch)
    if place == "in memory":
        return batches_in_order(epochs.in_memory())
    return batches_in_order(epochs.on_disk(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["batches", "Batches"])
@pytest.mark.parametrize("place", ["in memory", "on disk"])
def test_a_look_at_some_batches_changes_nothing(read, place, kind, ordered):
    found = read[place][kind]["loops"]
    assert found["peeks"] == [ordered[:1], ordered[:5], ordered[:15]]
    assert found["pairs"] == [[batch, batch] for batch in ordered[:16]]
    second = ordered[16:32]  # that of two loops, the one stopped for the other
    assert found["apart"] == [second[:3], second, second[3:]]
    assert found["afterwards"] == ordered[32:]
    assert found["from the middle"] == ordered[5:37]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["batches", "Batches"])
@pytest.mark.parametrize("place", ["in memory", "on disk"])
def test_fit_sees_every_epoch_in_its_own_order(read, place, kind, ordered):
    """However it is called, and with `shuffle=True`, which is its default."""
    found = dict(read[place][kind]["fit"])
    assert found.pop("from the middle") == ordered[5:37]
    assert found.pop("uneven parts") == ordered[:15]
    again = found.pop("stopped and begun again")
    assert again == [*ordered[:5], *ordered[:32]]
    assert found.keys() >= {"by default", "not shuffled", "validated"}
    for how, seen in found.items():
        assert seen == ordered[:32], how


@pytest.mark.slow
def test_building_a_model_for_a_search_changes_nothing(read):
    built, unbuilt, by_arrays, unbuilt_by_arrays = read["tickets"]
    assert built == unbuilt
    assert by_arrays == unbuilt_by_arrays != built
    for columns, values in (built, by_arrays):
        assert len(columns) == len(values) in (499, 500)


@pytest.mark.parametrize("rows", [1, 100, 300])
def test_what_is_made_ahead_does_not_count_as_read(rows):
    """Of one, two or five batches all would be made ahead."""
    dataset, others = batches(split(rows), 64, 0), batches(split(rows), 64, 0)
    first = epoch(others)
    if rows > 64:
        next(iter(dataset))
        time.sleep(0.2)  # for what makes them ahead
    assert_same(epoch(dataset), first)
    assert_same(epoch(dataset), epoch(others))


def test_several_workers_are_refused():
    source = Batches(split(), 64, seed=0)
    source.workers = 2
    with pytest.raises(ValueError, match="workers=2"):
        epochs.Notes().fitted(source)


@pytest.fixture
def on_disk(tmp_path):
    """50,000 rows in files, in windows of three blocks of 500."""
    rows = 50_000
    paths = [tmp_path / "0.npy", tmp_path / "1.npy"]
    for path in paths:
        np.save(path, np.arange(rows, dtype=np.uint16))
    labels = (np.arange(rows) % 2).astype(np.float32)
    return Split(StoredColumns(paths), labels)


@pytest.fixture
def _small_windows(monkeypatch):
    monkeypatch.setattr(pipeline, "_BLOCK", 450)
    monkeypatch.setattr(pipeline, "_WINDOW", 3)


@pytest.mark.usefixtures("_small_windows")
@pytest.mark.parametrize("position", [0, 7, 501])
def test_on_disk_every_row_once_per_epoch_in_the_same_order(on_disk, position):
    plain = Batches(on_disk, 100, seed=3)
    expected = [*plain, *plain]
    assert len(expected) == 1000
    for half in (expected[:500], expected[500:]):
        ids = np.concatenate([ids for ids, _ in half])
        labels = np.concatenate([labels for _, labels in half])
        assert sorted(ids[:, 0]) == list(range(50_000))
        np.testing.assert_array_equal(ids[:, 0], ids[:, 1])
        np.testing.assert_array_equal(labels[:, 0], ids[:, 0] % 2)
    assert not np.array_equal(expected[0][0], expected[500][0])
    dataset = batches(on_disk, 100, 3, position)
    assert_same(
        [*epoch(dataset), *epoch(dataset)][: 1000 - position],
        expected[position:],
    )


@pytest.mark.usefixtures("_small_windows")
def test_the_last_batch_of_a_file_may_be_short(on_disk):
    parts = [len(ids) for ids, _ in Batches(on_disk, 300, seed=0)]
    assert parts == [300] * 166 + [200]


@pytest.mark.usefixtures("_small_windows")
def test_on_disk_a_window_is_of_blocks_from_anywhere(on_disk):
    """Three blocks of 500 are mixed: rows spread as far as blocks do."""
    ids = np.concatenate([x[:, 0] for x, _ in Batches(on_disk, 100, seed=0)])
    first = ids[:1500]
    blocks, counts = np.unique(first // 500, return_counts=True)
    assert counts.tolist() == [500] * 3
    assert len({*(first[:100] // 500)}) == 3
    assert np.ptp(blocks) > 3
    correlation = np.corrcoef(ids, np.arange(50_000))[0, 1]
    assert abs(correlation) < 4 / np.sqrt(100)  # of 100 blocks


@pytest.fixture
def told(monkeypatch):
    """Rows that are read from disk, each time it is asked for some."""
    monkeypatch.setattr(pipeline, "_BLOCK", 400)
    monkeypatch.setattr(pipeline, "_WINDOW", 16)
    rows, read = [], StoredColumns.__getitem__

    def noted(self, part):
        found = read(self, part)
        rows.append(len(found))
        return found

    monkeypatch.setattr(StoredColumns, "__getitem__", noted)
    return rows


@pytest.mark.parametrize("position", [0, 137])
@pytest.mark.parametrize("workers", [2, 4, 8])
def test_workers_read_their_share_of_the_same_batches(
    on_disk, told, workers, position
):
    """The last window has 13 of the 125 blocks, and is not divided."""
    expected = epoch(batches(on_disk, 80, 3, position))
    everything = sum(told)
    for number in range(workers):
        told.clear()
        found = epoch(batches(on_disk, 80, 3, position, (number, workers)))
        rows = slice(number * 80 // workers, (number + 1) * 80 // workers)
        for (ids, labels), (all_ids, all_labels) in zip(
            found, expected, strict=True
        ):
            own = rows if len(all_ids) == 80 else slice(None)
            np.testing.assert_array_equal(ids[own], all_ids[own])
            np.testing.assert_array_equal(labels, all_labels)
        if not position:
            assert everything == 50_000
            assert sum(told) == 112 * 400 // workers + 13 * 400
        assert sum(told) < everything / workers + 2 * 13 * 400


def test_an_epoch_by_parts_of_blocks_has_every_row_once(on_disk, told):
    ids = np.concatenate([x[:, 0] for x, _ in Batches(on_disk, 80, seed=0)])
    assert sorted(ids) == list(range(50_000))
    first = np.unique(ids[: 16 * 400] // 400, return_counts=True)[1]
    assert first.tolist() == [400] * 16
    of_one = ids[:6400].reshape(80, 8, 10)[:, 0]  # an eighth of each batch
    assert len({*(of_one.ravel() // 400)}) == 2
    assert len({*(ids[:80] // 400)}) > 12
    assert sum(told) == 50_000


def test_a_share_that_is_no_number_of_eighths_is_read_and_more(on_disk, told):
    expected = epoch(batches(on_disk, 240, 3))
    told.clear()
    found = epoch(batches(on_disk, 240, 3, 0, (1, 3)))
    for (ids, _), (every, _) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ids[80:160], every[80:160])
    assert sum(told) < 0.7 * 50_000  # four of eight, and the last window
