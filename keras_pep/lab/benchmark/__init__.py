"""The measurements of `keras-pep benchmark`."""

from keras_pep.lab.benchmark.loop import loop_table
from keras_pep.lab.benchmark.sizes import size_table
from keras_pep.lab.benchmark.steps import step_table

__all__ = ["loop_table", "size_table", "step_table"]
