"""Several processes that train together, on this machine."""

import os

from benchmarks import workers


def environments(number=2):
    """The whole environment of each of some workers, with a thread each."""
    quiet = {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    found = workers.environments(number)
    return [{**os.environ, **quiet, **own} for own in found]
