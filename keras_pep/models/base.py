"""Base of the recommenders: ids per field in, one shared table."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import keras
import numpy as np
from keras import ops

from keras_pep.distribution import replicas
from keras_pep.layers.embedding import lengths_of_fields, positive_integer
from keras_pep.layers.ids import (
    Bounds,
    IdsMixin,
    as_ids,
    checked,
    ids_are_right,
    nan_instead_of_error,
    narrowed,
    of_columns,
)
from keras_pep.layers.quantized import quantize_as, quantized
from keras_pep.runtime import keras_of, layers_of

if TYPE_CHECKING:
    from keras_pep.pruning import Ticket


def _building(init: Callable[..., None]) -> Callable[..., None]:
    """Wrap a constructor: the last to return builds the model."""

    @functools.wraps(init)
    def building(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if type(self).__init__ is building:
            self.build()

    return building


class FieldModelMixin(IdsMixin):
    """A model over categorical fields that share one embedding table.

    A subclass computes logits of the looked-up rows in `logits`.

    Args:
        field_sizes: Number of features of each field.
        embedding_dim: Base embedding size.
        embedding: `"pep"`, `"dense"` (`keras.layers.Embedding`), `"pruned"`
            (a `PrunedEmbedding` of `ticket`), or a layer that looks up the
            `sum(field_sizes)` features, such as a `PEPEmbedding` with other
            arguments.
        ticket: The `Ticket` of a pruned embedding.
        field_lengths: Number of columns of each field, by default 1. A field
            of several is a list of features, whose vectors are averaged; a
            column of -1 is no feature.
        **kwargs: `name`, `dtype` and other arguments of `keras.Model`.

    Input shape:
        Integer tensor `(batch, sum(field_lengths))`, each field numbered from
        0.

    Output shape:
        Logits, `(batch, 1)`. On a GPU, in what XLA compiles, and exported, an
        id outside its field makes the logit of its row NaN.

    Raises:
        ValueError: If an argument is not as described, or, in an eager call, an
            id is outside its field: on TensorFlow it is an
            `InvalidArgumentError`, on its CPU in graphs, too.

    Example:

    ```python
    model = keras_pep.models.FM([6040, 3706], embedding_dim=16)
    isinstance(model, keras_pep.models.FieldModel)  # True
    model.table_rows(np.array([[12, 7]]))  # [[12, 6047]]
    ```
    """

    built: bool

    @_building
    def __init__(
        self,
        field_sizes: Sequence[int],
        embedding_dim: int = 64,
        embedding: str | keras.layers.Layer = "pep",
        ticket: "Ticket | None" = None,
        field_lengths: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.field_sizes = tuple(
            positive_integer("field_sizes", size) for size in field_sizes
        )
        if not self.field_sizes:
            raise ValueError(
                "`field_sizes` must have at least one field. "
                f"Received: field_sizes={field_sizes}"
            )
        self.field_lengths = lengths_of_fields(field_lengths, self.field_sizes)
        self.embedding_dim = positive_integer("embedding_dim", embedding_dim)
        self.autocast = False  # ids stay integers
        self.embedding = self._embedding_layer(embedding, ticket)
        if sum(self.field_sizes) > np.iinfo(np.int32).max:
            raise ValueError(
                "Rows of the table are numbered in int32: `field_sizes` must "
                f"add up to less than 2**31. Found: {sum(self.field_sizes)}"
            )
        offsets = np.cumsum((0, *self.field_sizes[:-1]), dtype=np.int32)
        self._offsets = np.repeat(offsets, self.field_lengths)
        self._bounds = Bounds.of_fields(self.field_sizes, self.field_lengths)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let the outermost constructor build the model at its end."""
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _building(cls.__init__)  # type: ignore[method-assign]

    def build(self, input_shape: Any = None) -> None:
        """Build every layer, as the constructor has done already."""
        if not self.built:
            self.call(ops.zeros((1, sum(self.field_lengths)), "int32"))
            self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Logits of a batch of ids."""
        ids, valid = self._checked(inputs)
        rows = self._rows(ids)
        with ids_are_right(rows):
            logits = self.logits(rows, self.shares(ids), training)
        if valid is None:
            return logits
        # Here, once: a layer that normalizes over the batch would spread NaN.
        return ops.where(
            ops.all(valid, axis=1, keepdims=True), logits, float("nan")
        )

    def logits(self, rows: Any, shares: Any, training: bool | None) -> Any:
        """Logits of looked-up rows, `(batch, 1)`.

        Args:
            rows: Rows of the shared table, `(batch, columns)`.
            shares: As `shares` returns it.
            training: Whether the model is being trained.
        """
        raise NotImplementedError

    def export(
        self,
        filepath: Any,
        format: str = "tf_saved_model",  # noqa: A002
        **kwargs: Any,
    ) -> Any:
        """Export the model: in it, NaN answers an id outside its field.

        `keras_pep.export_saved_model` stores tables in fewer bytes. In
        LiteRT, compact tables need its TensorFlow ops ("Flex delegate").

        Args:
            filepath: Where to write.
            format: As for `keras.Model.export`.
            **kwargs: The same. `input_signature` is by default a batch of ids
                of any size, int32.

        Raises:
            RuntimeError: If the model cannot be written in this format.
        """
        if keras_of(self) is not keras:
            with nan_instead_of_error():
                return super().export(filepath)
        columns = sum(self.field_lengths)
        signature = [keras.InputSpec(shape=(None, columns), dtype="int32")]
        kwargs = {"input_signature": signature, **kwargs}
        try:
            with nan_instead_of_error():
                return super().export(filepath, format=format, **kwargs)
        except ImportError:  # says which package to install
            raise
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise RuntimeError(
                f"{self.name!r} cannot be exported as {format!r} by the "
                f"backend {keras.backend.backend()!r}: {lines[0]} Use "
                "`keras_pep.export_saved_model`, with "
                "KERAS_BACKEND=tensorflow; `.keras` files move between "
                "backends."
            ) from error

    def table_rows(self, ids: Any) -> Any:
        """Rows of the shared table, for ids numbered within their field.

        An id outside its field has a row that no table has, or is an error.
        """
        ids, valid = self._checked(ids)
        rows = self._rows(ids)
        if valid is None:
            return rows
        return ops.where(valid, rows, sum(self.field_sizes))

    def _checked(self, inputs: Any) -> tuple[Any, Any]:
        """Ids as `ids.checked` returns them, and which were right, or None."""
        columns = len(self._offsets)
        ids, valid = checked(of_columns(as_ids(inputs), columns), self._bounds)
        return ops.cast(ids, "int32"), valid

    def _rows(self, ids: Any) -> Any:
        if self.has_lists:  # of no feature: some row, times 0
            ids = ops.maximum(ids, 0)
        return ids + self._offsets

    @property
    def has_lists(self) -> bool:
        """Whether a field is a list of features."""
        return max(self.field_lengths) > 1

    def shares(self, ids: Any) -> Any:
        """Weight each column within its field, `(batch, columns)`.

        None if no field is a list: each counts 1.
        """
        if not self.has_lists:
            return None
        there = ops.cast(ids >= 0, self.variable_dtype)
        counts = there @ self._membership @ self._membership.T
        return there / ops.maximum(counts, 1)

    def vectors(self, rows: Any, shares: Any = None) -> Any:
        """A vector for each field, `(batch, fields, embedding_dim)`."""
        vectors = self.embedding(rows)
        if shares is None:
            return vectors
        shares = ops.cast(shares, vectors.dtype)
        fields = ops.cast(self._membership.T, vectors.dtype)
        return ops.matmul(fields, vectors * shares[..., None])

    @property
    def _membership(self) -> np.ndarray:
        """1 where a column belongs to a field, `(columns, fields)`."""
        return np.repeat(
            np.eye(len(self.field_lengths), dtype=np.float32),
            self.field_lengths,
            axis=0,
        )

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """`(batch, 1)`."""
        return (input_shape[0], 1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "field_sizes": list(self.field_sizes),
            "field_lengths": list(self.field_lengths),
            "embedding_dim": self.embedding_dim,
            "embedding": keras_of(self).saving.serialize_keras_object(
                self.embedding
            ),
            **quantized(self),
        }

    def _embedding_layer(
        self, embedding: Any, ticket: "Ticket | None"
    ) -> keras.layers.Layer:
        if (embedding == "pruned") != (ticket is not None):
            raise ValueError(
                "`ticket` goes with embedding='pruned', and only with it. "
                f"Received: embedding={embedding!r}, ticket={ticket}"
            )
        size = sum(self.field_sizes), self.embedding_dim
        base, ours = keras_of(self).layers, layers_of(self)
        layer = embedding
        if ticket is not None:
            layer = ours.PrunedEmbedding.from_ticket(
                ticket,
                "embedding" if "embedding" in ticket.tables else None,
                name="embedding",
                dtype=self.dtype_policy,
            )
        if isinstance(layer, base.Layer):
            # A layer of another kind need not say how large it is.
            found = tuple(
                getattr(layer, name, expected)
                for name, expected in zip(
                    ("input_dim", "output_dim"), size, strict=True
                )
            )
            if found != size:
                raise ValueError(
                    "The embedding must have as many rows as there are "
                    f"features and `embedding_dim` columns, {size}. "
                    f"Received: {found}"
                )
            return layer
        kinds = {"pep": ours.PEPEmbedding, "dense": base.Embedding}
        if not isinstance(embedding, str) or embedding not in kinds:
            raise ValueError(
                "`embedding` must be 'pep', 'dense', 'pruned' or a layer of "
                f"{base.__name__}. Received: embedding={embedding!r}"
            )
        return kinds[embedding](
            *size,
            embeddings_initializer="glorot_uniform",
            name="embedding",
            dtype=self.dtype_policy,
        )

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The model that `get_config` describes."""
        embedding = keras_of(cls).saving.deserialize_keras_object(
            config["embedding"]
        )
        made: Self = quantize_as(cls, {**config, "embedding": embedding})
        return made


def _of_any_width(name: str) -> Callable[..., Any]:
    """Wrap a method of `keras.Model`: ids of 64 bits do not wrap on JAX."""
    method = getattr(keras.Model, name)

    @functools.wraps(method)
    def on_narrowed(self: Any, x: Any = None, *args: Any, **kw: Any) -> Any:
        return method(self, narrowed(x), *args, **kw)

    return on_narrowed


def _batches_of_any_width(kind: str) -> Callable[..., None]:
    """Wrap the `keras.Model` method that makes the function of a step.

    On JAX it is the last place where batches are still arrays of NumPy, of
    64 bits.
    """
    name = f"make_{kind}_function"
    method = getattr(keras.Model, name)

    @functools.wraps(method)
    def make(self: Any, force: bool = False) -> None:
        before = getattr(self, f"{kind}_function")
        method(self, force)
        made = getattr(self, f"{kind}_function")
        if made is before:
            return
        if kind == "train" and self.built:
            replicas.build_slots(self)
        if keras.backend.backend() != "jax":
            return

        def on_narrowed(state: Any, batches: Iterator[Any]) -> Any:
            return made(state, map(_narrowed_batch, batches))

        setattr(self, f"{kind}_function", on_narrowed)

    return make


def _narrowed_batch(batch: Any) -> Any:
    if isinstance(batch, tuple | list):
        return (narrowed(batch[0]), *batch[1:])
    return narrowed(batch)


class FieldModel(FieldModelMixin, keras.Model):  # noqa: D101
    __doc__ = FieldModelMixin.__doc__

    fit = _of_any_width("fit")
    evaluate = _of_any_width("evaluate")
    predict = _of_any_width("predict")
    train_on_batch = _of_any_width("train_on_batch")
    test_on_batch = _of_any_width("test_on_batch")
    predict_on_batch = _of_any_width("predict_on_batch")
    make_train_function = _batches_of_any_width("train")
    make_test_function = _batches_of_any_width("test")
    make_predict_function = _batches_of_any_width("predict")
