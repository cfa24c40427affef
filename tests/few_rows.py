"""The synthetic dataset with fewer rows."""

from keras_pep.data import synthetic

GENERATE = synthetic.generate


def have_rows(patch, rows):
    """Have the synthetic dataset have so many rows."""
    patch.setattr(synthetic, "generate", lambda seed: GENERATE(seed, rows))
