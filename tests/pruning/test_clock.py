import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_pep
from keras_pep.optimizers import catch_up, parts
from keras_pep.pruning import clock as clock_module
from keras_pep.pruning.clock import approach_clock, set_clock


@pytest.fixture
def layers(monkeypatch):
    """Two tables, 30,000 entries, of which 2,048 may be sorted at once."""
    monkeypatch.setattr(clock_module, "_ENTRIES_AT_ONCE", 2048)
    monkeypatch.setattr(clock_module, "_ENTRIES_TO_SAMPLE", 2048)
    monkeypatch.setattr(clock_module, "_BINS", 64)
    layers = [
        keras_pep.PEPEmbedding(2000, 10, threshold_init=-3.0, name="a"),
        keras_pep.PEPEmbedding(1000, 10, granularity="feature", name="b"),
    ]
    random = np.random.default_rng(0)
    for layer in layers:
        layer.build()
        layer.embeddings.assign(random.normal(size=layer.embeddings.shape))
        layer.threshold_logits.assign(
            random.normal(-4, 1, size=layer.threshold_logits.shape)
        )
    return layers


@pytest.mark.parametrize("allowed", [29_999, 20_000, 3_000, 100, 1])
def test_a_table_too_large_to_sort_is_cut_exactly(layers, allowed):
    kept = set_clock(layers, allowed)
    # Float32 may not tell the last entries apart.
    assert allowed - 2 <= kept <= allowed
    assert kept == sum(layer.nonzero_parameters() for layer in layers)
    lifetimes = np.concatenate([x.lifetimes().ravel() for x in layers])
    expected = np.sort(lifetimes)[-allowed - 1 : -allowed + 1 or None]
    assert expected[0] <= float(layers[0].clock.numpy()) <= expected[-1]


def test_between_tickets_a_sample_is_enough(layers):
    """What it leaves is estimated, and how wrong the estimate is as well."""
    random = np.random.default_rng(1)
    off = []
    for _ in range(40):
        estimate, error = approach_clock(layers, 6_000, random)
        kept = sum(layer.nonzero_parameters() for layer in layers)
        # A fifth of 2,048 sampled: 1 / sqrt(410) is 5 %; rows are sampled
        # whole.
        assert kept == pytest.approx(6_000, rel=0.2)
        assert 0.02 < error / kept < 0.2
        off.append((estimate - kept) / error)
    # Standard normal, nearly: of 40 its mean is within 0.5, its size within
    # 0.3 of 1, but for one time in a hundred.
    assert abs(np.mean(off)) < 0.5
    assert np.std(off) == pytest.approx(1, abs=0.3)


@pytest.mark.requires_tensorflow
@pytest.mark.parametrize("one_each", [False, True])
def test_rows_are_judged_by_what_the_optimizer_would_make_of_them(
    layers, one_each
):
    """Of two tables half of the rows have been idle: nothing is written."""
    optimizer = keras_pep.optimizers.LazyAdam(0.1, l2=0.01)
    if one_each:
        lazy = {
            layer.embeddings.path: keras_pep.optimizers.LazyAdam(0.1, l2=0.01)
            for layer in layers
        }
        optimizer = keras.optimizers.MultiOptimizer(lambda x: lazy[x.path])
    optimizer.build([layer.embeddings for layer in layers])
    slices = [
        tf.IndexedSlices(tf.ones((500, 10)), tf.range(500), x.embeddings.shape)
        for x in layers
    ]
    optimizer.apply(slices, [layer.embeddings for layer in layers])
    for part in parts(optimizer):
        part.iterations.assign(30)
    before = layers[0].embeddings.numpy()
    approach_clock(layers, 6_000, np.random.default_rng(1), optimizer)
    clock = float(layers[0].clock.numpy())
    np.testing.assert_array_equal(layers[0].embeddings.numpy(), before)
    approach_clock(layers, 6_000, np.random.default_rng(1))
    assert float(layers[0].clock.numpy()) > clock + 0.1
    catch_up(optimizer)
    assert abs(layers[0].embeddings.numpy() - before).min() > 0
    approach_clock(layers, 6_000, np.random.default_rng(1))
    assert float(layers[0].clock.numpy()) == clock


def test_small_tables_are_counted(layers, monkeypatch):
    monkeypatch.setattr(clock_module, "_ENTRIES_TO_SAMPLE", 30_000)
    kept, error = approach_clock(layers, 6_000, np.random.default_rng(1))
    assert error == 0
    assert kept == sum(layer.nonzero_parameters() for layer in layers)
    assert 5_998 <= kept <= 6_000


def test_what_is_already_zero_never_comes_back(layers):
    values = layers[0].embeddings.numpy()
    values[:1500] = 0
    layers[0].embeddings.assign(values)
    assert 14_990 <= set_clock(layers, 14_999) <= 14_999


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_divergence_is_reported(layers, value):
    layers[1].embeddings.assign(np.full((1000, 10), value))
    with pytest.raises(ValueError, match="diverged"):
        set_clock(layers, 100)
    with pytest.raises(ValueError, match="diverged"):
        approach_clock(layers, 100, np.random.default_rng(0))
