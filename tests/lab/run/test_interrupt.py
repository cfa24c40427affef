"""Ctrl-C is handle_sigint, whatever the code that it meets makes of it."""

import contextlib
import signal

import keras
import numpy as np
import pytest

from keras_pep.lab.run.interrupt import Interruptible, handle_sigint


def _interrupted_in_code_that_swallows_it():
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def _interrupted_in_code_that_makes_it_an_error():
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt as error:
        raise AttributeError("no attribute") from error


def test_an_error_made_of_an_interrupt_is_an_interrupt():
    with pytest.raises(KeyboardInterrupt) as caught, handle_sigint():
        _interrupted_in_code_that_makes_it_an_error()
    assert isinstance(caught.value.__cause__, AttributeError)


def test_a_lost_interrupt_ends_the_training_after_its_step():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(loss="mse")
    steps = []

    class Swallows(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            steps.append(batch)
            if batch == 2:
                _interrupted_in_code_that_swallows_it()

    with pytest.raises(KeyboardInterrupt), handle_sigint():
        model.fit(
            np.zeros((64, 1)),
            np.zeros(64),
            batch_size=8,
            verbose=0,
            callbacks=[Swallows(), Interruptible()],
        )
    assert steps == [0, 1, 2]


def test_other_errors_stay_and_so_does_the_handler():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="of its own"), handle_sigint():
        raise ValueError("of its own")
    with pytest.raises(KeyboardInterrupt), handle_sigint():
        _interrupted_in_code_that_makes_it_an_error()
    # The interrupt has had its effect, and is not kept for the next run.
    with pytest.raises(ValueError, match="of its own"), handle_sigint():
        raise ValueError("of its own")
    assert signal.getsignal(signal.SIGINT) is before
