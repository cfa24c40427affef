"""The optimizers, for `tf_keras`; see their twins in `keras_pep.optimizers`."""

from typing import Any

import tf_keras

from keras_pep.optimizers import AdamL2Mixin, LazyAdamMixin

_registered = tf_keras.saving.register_keras_serializable(package="keras_pep")


class _Adam(tf_keras.optimizers.Adam):
    """Adam of `tf_keras` that knows its variables as that of Keras 3 does."""

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


@_registered
class AdamL2(AdamL2Mixin, _Adam):  # noqa: D101
    __doc__ = AdamL2Mixin.__doc__


@_registered
class LazyAdam(LazyAdamMixin, AdamL2):  # noqa: D101
    __doc__ = LazyAdamMixin.__doc__

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # `tf_keras` compiles updates by default where there is a GPU, but how
        # many rows a batch has looked up is not known when it does.
        super().__init__(*args, **{"jit_compile": False, **kwargs})
