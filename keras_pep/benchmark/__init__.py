"""What `keras-pep benchmark` measures."""

from keras_pep.benchmark.steps import step_table

__all__ = ["step_table"]
