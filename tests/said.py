"""The lines that keras-pep logs."""

import contextlib
import logging


@contextlib.contextmanager
def saying(say, level=logging.INFO):
    """Calls a function with each line, which may raise an error."""

    class Lines(logging.Handler):
        def emit(self, record):
            say(record.getMessage())

    logger = logging.getLogger("keras_pep")
    lines, before = Lines(level), logger.level
    logger.addHandler(lines)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(lines)
        logger.setLevel(before)
