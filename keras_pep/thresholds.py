"""The mathematics of PEP: soft threshold and granularity.

Notation follows Liu et al., "Learnable Embedding Sizes for Recommender
Systems", ICLR 2021 (arXiv 2101.07577): `V` is the embedding table (N features
times d dimensions), `s` the threshold logits, `g` the sigmoid.
"""

from typing import Any

from keras import ops

from keras_pep.gradients import with_gradient

GRANULARITIES = (
    "global",
    "dimension",
    "feature",
    "feature_dimension",
    "field",
    "field_dimension",
)

# By how much the threshold of a prefix rises from one column to the next: see
# apps/reproduce/LOG.md.
GROWTH = 1.1


def soft_threshold(values: Any, thresholds: Any) -> Any:
    """Move values towards zero by their threshold; what crosses it is zero.

    ```
    S(V, s) = sign(V) * relu(|V| - g(s))
    ```

    Gradients are those of the formula:

    ```
    dL/dV    =  dL/dS * 1{S != 0}
    dL/dg(s) = -sum(dL/dS * sign(V) * 1{|V| > g(s)})
    ```

    summed over the entries that share a threshold. A value of exactly zero
    gets no gradient, so it stays zero: a mask needs no storage of its own.
    They are written out here: what TensorFlow derives takes longer.

    Args:
        values: Float tensor.
        thresholds: Float tensor that broadcasts to `values`, not negative.

    Returns:
        Tensor with the shape of `values`.

    Reference:
        - [Liu et al., 2021, equation 4](https://arxiv.org/abs/2101.07577)
    """
    values = ops.convert_to_tensor(values)
    return _moved(values, ops.convert_to_tensor(thresholds, values.dtype))


@with_gradient
def _moved(values: Any, thresholds: Any) -> tuple[Any, Any]:
    moved = values - ops.clip(values, -thresholds, thresholds)

    def gradient(upstream: Any) -> tuple[Any, Any]:
        sign = ops.sign(moved)
        outwards = upstream * sign
        inwards = _summed_to(-outwards, thresholds)
        return _summed_to(outwards * sign, values), inwards

    return moved, gradient


def prefix_threshold(values: Any, thresholds: Any) -> Any:
    """Keep the first entries of each row, as many as are worth it.

    ```
    S(V, s)[j] = V[j] * relu(1 - g(s) * GROWTH**j / norm(V[j:]))
    ```

    The norm of what follows in a row falls, and what it is compared with rises
    from column to column: where an entry is zero, all after it are. The
    gradient of `V` passes straight through what is kept; that of the threshold
    is the formula's.

    Args:
        values: Float tensor, `(rows, columns)`.
        thresholds: Float tensor, not negative, that broadcasts to `values` and
            is the same for all columns.

    Returns:
        Tensor with the shape of `values`.
    """
    values = ops.convert_to_tensor(values)
    return _cut(values, ops.convert_to_tensor(thresholds, values.dtype))


def suffix_norms(values: Any) -> Any:
    """Norm of each entry and those after it in its row, by `GROWTH**column`.

    Args:
        values: Float tensor, `(rows, columns)`.
    """
    squares = ops.flip(ops.square(values), axis=1)
    norms = ops.sqrt(ops.flip(ops.cumsum(squares, axis=1), axis=1))
    columns = ops.arange(values.shape[1], dtype=norms.dtype)
    return norms * ops.power(ops.cast(1 / GROWTH, norms.dtype), columns)


@with_gradient
def _cut(values: Any, thresholds: Any) -> tuple[Any, Any]:
    norms = suffix_norms(values)
    there = norms > thresholds
    part = values / ops.where(there, norms, 1)
    cut = ops.where(there, values - thresholds * part, 0)

    def gradient(upstream: Any) -> tuple[Any, Any]:
        kept = ops.where(cut != 0, upstream, 0)
        return kept, _summed_to(-kept * part, thresholds)

    return cut, gradient


def thresholds(logits: Any, clock: Any) -> Any:
    """Compute the threshold that is subtracted: `sigmoid(s) * exp(clock)`.

    Computed as `exp(s + clock) * sigmoid(-s)`, which is the same, but does not
    lose a sigmoid too small for a float, from -104 on in float32, before the
    clock has made it large.

    Args:
        logits: `s`, float tensor, less than 80.
        clock: Float scalar; `-inf` turns thresholds off.

    Returns:
        Tensor with the shape of `logits`.
    """
    # Of variables TensorFlow would ask for other gradients.
    return _risen(ops.copy(logits), ops.copy(clock))


@with_gradient
def _risen(logits: Any, clock: Any) -> tuple[Any, Any]:
    distance = ops.sigmoid(-logits)
    result = ops.exp(logits + clock) * distance

    def gradient(upstream: Any) -> tuple[Any, Any]:
        of_clock = upstream * result
        return of_clock * distance, _summed_to(of_clock, clock)

    return result, gradient


def _summed_to(gradient: Any, like: Any) -> Any:
    """Sum over the axes along which `like` has been broadcast."""
    added = len(gradient.shape) - len(like.shape)
    if added:
        gradient = ops.sum(gradient, axis=tuple(range(added)))
    for axis, (size, shared) in enumerate(
        zip(gradient.shape, like.shape, strict=True)
    ):
        if shared == 1 and size != 1:
            gradient = ops.sum(gradient, axis=axis, keepdims=True)
    return gradient


def logit_shape(
    granularity: str, input_dim: int, output_dim: int, num_fields: int
) -> tuple[int, int]:
    """Shape of `s`: which entries of the table share one threshold.

    Args:
        granularity: One of `GRANULARITIES`.
        input_dim: Number of features, the rows of the table.
        output_dim: Base dimension, the columns of the table.
        num_fields: Number of fields.

    Returns:
        `(rows, columns)`, `rows` being 1, the number of fields or the number
        of features, and `columns` 1 or `output_dim`.
    """
    owner = granularity.removesuffix("dimension").rstrip("_")
    rows = {"field": num_fields, "feature": input_dim}.get(owner, 1)
    return rows, output_dim if granularity.endswith("dimension") else 1


def field_of(rows: Any, field_sizes: tuple[int, ...]) -> Any:
    """The field that every table row belongs to.

    Args:
        rows: Integer tensor of row numbers.
        field_sizes: Number of features of each field. The rows of a field
            follow one another in the table, in the order of the fields.

    Returns:
        int32 tensor with the shape of `rows`.
    """
    ends = ops.cumsum(ops.convert_to_tensor(field_sizes, dtype=rows.dtype))
    return ops.searchsorted(ends, rows, side="right")
