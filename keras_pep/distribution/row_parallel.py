"""Rows of tables, and batches, divided among devices on JAX."""

from typing import Any

import keras

# Entries of the smallest table that is shared out, 256 KiB of float32: less
# than what a look-up sends between devices.
_LEAST = 2**16


class RowParallel(keras.distribution.ModelParallel):
    """Shares the rows of embedding tables out among devices, on JAX.

    Each device holds an equal part of the rows of every `PEPEmbedding` and
    `keras.layers.Embedding` of 65,536 entries or more, of the thresholds of
    these rows, of the first-order weights that belong to them, and of what an
    optimizer remembers of all of these. Other weights are on every device, and
    so are smaller tables and the compact ones of `PrunedEmbedding`. A step
    sends ids, looked-up vectors and their gradients between devices, never a
    table.

    It is a `keras.distribution.ModelParallel` that goes by what variables are,
    not by patterns for their names: it must be set before a model is made.

    Args:
        device_mesh: The devices, a `keras.distribution.DeviceMesh`, rows along
            its last axis and batches along its first. By default all devices,
            of shape `(1, devices)`: each of them computes the whole of every
            batch. A mesh of one axis divides batches among the devices too,
            so that the number of devices must divide the size of every batch,
            as it does those of `keras_pep.data.batches`.

    Raises:
        ValueError: If Keras does not run on JAX, or, when a layer is built, if
            the rows of its table cannot be divided equally.

    Example:

    ```python
    keras.distribution.set_distribution(keras_pep.distribution.RowParallel())
    model = keras_pep.models.FM(field_sizes, embedding_dim=64)
    ```
    """

    def __init__(
        self, device_mesh: keras.distribution.DeviceMesh | None = None
    ) -> None:
        backend = keras.backend.backend()
        if backend != "jax":
            raise ValueError(
                "Only JAX divides the rows of a table among devices: set "
                f"KERAS_BACKEND=jax. Found: {backend}"
            )
        if device_mesh is None:
            devices = keras.distribution.list_devices()
            device_mesh = keras.distribution.DeviceMesh(
                (1, len(devices)), ("batch", "rows"), devices
            )
        super().__init__(layout_map=keras.distribution.LayoutMap(device_mesh))
        self._axis = device_mesh.axis_names[-1]
        self._parts = int(device_mesh.shape[-1])
        self._tables: set[tuple[str, int]] = set()

    def get_variable_layout(self, variable: keras.Variable) -> Any:
        """Divide rows along the last axis of the mesh, or copy the whole.

        Raises:
            ValueError: If the rows of a table cannot be divided equally.
        """
        known = getattr(variable, "_layout", None) is not None
        if known or not self._is_divided(variable):
            return super().get_variable_layout(variable)
        return keras.distribution.TensorLayout(
            (self._axis, None), self.device_mesh
        )

    def _is_divided(self, variable: keras.Variable) -> bool:
        if len(variable.shape) != 2:
            return False
        layer, _, name = variable.path.rpartition("/")
        rows, columns = variable.shape
        if name == "embeddings" and rows * columns >= _LEAST:
            if rows % self._parts:
                more = -rows % self._parts
                raise ValueError(
                    f"{layer!r} has {rows:,} rows, which {self._parts} devices "
                    f"cannot share equally. Add {more} rows, for example as "
                    f"{more} features of the last field: rows that no id reads "
                    "take no part in training."
                )
            self._tables.add((layer, rows))
            return True
        if name == "threshold_logits":
            return (layer, rows) in self._tables
        # A weight for each row of a table.
        first_order = name == "kernel" and columns == 1
        return first_order and any(rows == each for _, each in self._tables)


def batch_shards() -> int:
    """Count the parts of a batch that `keras.distribution` makes on JAX."""
    if keras.backend.backend() != "jax":
        return 1
    distribution = keras.distribution.distribution()
    if distribution is None:
        return 1
    mesh = distribution.device_mesh
    place = mesh.axis_names.index(distribution.batch_dim_name)
    return int(mesh.shape[place])
