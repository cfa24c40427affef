import keras
import numpy as np
import pytest

import keras_pep


def weight_after(optimizer, steps, start, gradient=0.0):
    variable = keras.Variable([start])
    for _ in range(steps):
        optimizer.apply([keras.ops.array([gradient])], [variable])
    return float(variable.numpy()[0])


def test_l2_alone_moves_a_weight_by_one_learning_rate_a_step():
    """What makes thresholds rise: from -15, 100 steps of 0.001 up."""
    optimizer = keras_pep.optimizers.AdamL2(0.001, l2=1e-5)
    # epsilon 1e-8 against a gradient of 1.5e-4 costs less than one part in
    # ten thousand, once Adam's bias correction has settled.
    assert weight_after(optimizer, 100, -15.0) == pytest.approx(-14.9, abs=1e-3)


def test_decoupled_weight_decay_does_not():
    optimizer = keras.optimizers.AdamW(0.001, weight_decay=1e-5)
    assert weight_after(optimizer, 100, -15.0) == pytest.approx(-15, abs=2e-5)


def test_without_l2_it_is_adam():
    ours = keras_pep.optimizers.AdamL2(0.01, l2=0.0, epsilon=1e-7)
    theirs = keras.optimizers.Adam(0.01)
    assert weight_after(ours, 5, 1.0, 0.3) == weight_after(theirs, 5, 1.0, 0.3)


def test_settings_survive_saving(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(
        keras_pep.optimizers.AdamL2(0.02, l2=0.5, clipnorm=3.0), "mse"
    )
    model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").optimizer
    assert isinstance(loaded, keras_pep.optimizers.AdamL2)
    assert loaded.get_config() == model.optimizer.get_config()
    assert loaded.get_config()["l2"] == 0.5


@pytest.mark.parametrize("l2", [-1.0, float("nan")])
def test_a_negative_l2_is_refused(l2):
    with pytest.raises(ValueError, match=f"l2={l2}"):
        keras_pep.optimizers.AdamL2(l2=l2)
