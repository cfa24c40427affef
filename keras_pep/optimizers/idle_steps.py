"""Steps of Adam without a gradient but L2's, many at once."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

# To exactly zero would be too far: see `soft_threshold`.
LONGEST_PULL = 10.0


def aged(
    rows: Sequence[Any],
    numbers: tuple[float, ...],
    idle: Any,
    late: Any,
    first_rate: Any,
    rate: Any,
) -> tuple[Any, Any, Any]:
    """Rows `w` and moments after `idle` steps of no gradient but L2's.

    In closed form, and so not exactly. With `b1`, `b2` and `k` idle steps:

    1. Momentum runs out: `w -= first_rate * n * m / r`, where `r = sqrt(v)`
       and `n = b1 + ... + b1**k`.
    2. L2 alone would make of `r` in the end `r' = sqrt(v * b2**k + u)`,
       `u = (l2 * w)**2 * (1 - b2**k)`. It pulls by `p = rate * l2 * (k -
       late) / s`; `1 / s` is the mean of `1 / r` over a geometric series
       from `r`, or `r'` if that is larger, to `r'`, by a rule like
       Simpson's.
    3. The value becomes `w * f**2`, `f = exp(-p / 2)`. But where L2 makes
       up most of `v`, `r' > r`, it normalizes itself, and the value falls
       nearly in a line: `f = 1 - p / 2`.
    4. Of the moments remain `v * b2**k + u * f` and `m * b1**k + l2 * w *
       (1 - b1**k)`.

    `idle` is `k`; that and `late`, `first_rate` and `rate` see
    `LazyAdam._idle_steps`; `numbers` are `l2`, `b1`, `b2` and epsilon.
    """
    value, m, v = rows
    l2, beta_1, beta_2, epsilon = numbers
    root = ops.sqrt(v) + epsilon
    value = value - (first_rate * lag(beta_1, idle)) * m / root
    beta_1, beta_2 = power(beta_1, idle), power(beta_2, idle)
    faded, of_l2 = v * beta_2, ops.square(l2 * value) * (1 - beta_2)
    end = ops.sqrt(faded + of_l2) + epsilon
    start = ops.maximum(root, end)
    ratio = start / end
    pull = (rate * (l2 / 12) * (idle - late)) * (
        (4 * ops.sqrt(ratio) + ratio + 1) / start
    )
    left = ops.where(
        root < end,
        ops.maximum(1 - pull, math.exp(-LONGEST_PULL / 2)),
        ops.exp(-ops.minimum(pull, LONGEST_PULL / 2)),
    )
    value = value * ops.square(left)
    m = m * beta_1 + (l2 * (1 - beta_1)) * value
    return value, m, faded + of_l2 * left


@functools.cache
def by_xla(aged: Callable[..., Any]) -> Any:
    """A function like `aged`, compiled by JAX for rows in the same memory."""
    import jax

    return jax.jit(aged, static_argnums=1, donate_argnums=0)


def lag(beta: float, steps: Any) -> Any:
    """`beta + beta**2 + ...`, of that many terms."""
    return beta / (1 - beta) * (1 - power(beta, steps))


def power(beta: float, steps: Any) -> Any:
    """`beta**steps`; of many steps in less time than `ops.power` takes."""
    if beta > 0:
        return ops.exp(steps * math.log(beta))
    return ops.power(beta, steps)
