"""What `keras-pep benchmark` measures."""

from keras_pep.benchmark.loop import loop_table
from keras_pep.benchmark.sizes import size_table
from keras_pep.benchmark.steps import step_table

__all__ = ["loop_table", "size_table", "step_table"]
