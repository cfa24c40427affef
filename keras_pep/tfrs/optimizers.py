"""The optimizers, for `tf_keras`; see their twins in `keras_pep.optimizers`."""

from typing import Any

import tf_keras

from keras_pep.optimizers import (
    AdamL2Mixin,
    LazyAdamMixin,
    RowwiseAdagradMixin,
)

_registered = tf_keras.saving.register_keras_serializable(package="keras_pep")


class _Legacy(tf_keras.optimizers.Optimizer):
    """One of `tf_keras` that knows its variables as those of Keras 3 do."""

    def build(self, var_list: Any) -> None:
        if not self.built:
            self._trainable_variables = list(var_list)
        super().build(var_list)

    @property
    def built(self) -> bool:
        return getattr(self, "_built", False)

    def _get_variable_index(self, variable: Any) -> int:
        index: int = self._index_dict[self._var_key(variable)]
        return index


class _ByRow(_Legacy):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # `tf_keras` compiles updates by default where there is a GPU, but how
        # many rows a batch has looked up is not known when it does.
        super().__init__(*args, **{"jit_compile": False, **kwargs})


@_registered
class AdamL2(AdamL2Mixin, _Legacy, tf_keras.optimizers.Adam):  # noqa: D101
    __doc__ = AdamL2Mixin.__doc__


@_registered
class LazyAdam(LazyAdamMixin, _ByRow, AdamL2):  # noqa: D101
    __doc__ = LazyAdamMixin.__doc__


@_registered
class RowwiseAdagrad(  # noqa: D101
    RowwiseAdagradMixin, _ByRow, tf_keras.optimizers.Adagrad
):
    __doc__ = RowwiseAdagradMixin.__doc__
