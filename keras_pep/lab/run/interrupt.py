"""Ctrl-C that is heard, wherever Python happens to be."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import keras

_pending = threading.Event()


def interrupted() -> bool:
    """Tell whether an interrupt is on its way."""
    return _pending.is_set()


@contextlib.contextmanager
def handle_sigint() -> Iterator[None]:
    """Remember an interrupt until it has had an effect.

    `KeyboardInterrupt` is lost when it is raised while Python destroys an
    object or is called back from C, as in between the steps of a training.
    Code it passes through may also turn it into an error of its own: that
    is an interrupt too.

    Raises:
        KeyboardInterrupt: Also for an error that followed an interrupt.
    """
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored or threading.current_thread() is not threading.main_thread():
        yield  # signals are for the main thread
        return

    def remember(number: int, frame: FrameType | None) -> None:
        _pending.set()
        signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield
    except Exception as error:
        if interrupted():
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, before)
        _pending.clear()


class Interruptible(keras.callbacks.Callback):
    """Interrupts a training whose interrupt was lost."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Look for one, after every step."""
        if interrupted():
            raise KeyboardInterrupt
