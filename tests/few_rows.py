"""The synthetic dataset with fewer rows, and programs with fewer epochs."""

import re

from keras_pep.data import synthetic

GENERATE = synthetic.generate


def have_rows(patch, rows):
    """Have the synthetic dataset have so many rows."""
    patch.setattr(synthetic, "generate", lambda seed: GENERATE(seed, rows))


def with_fewer_epochs(code):
    """A fourth of the epochs, two at least."""

    def fewer(found):
        return f"epochs={max(2, int(found[1]) // 4)}"

    return re.sub(r"\bepochs=(\d+)", fewer, code)
