"""PEP in plain NumPy and float64, written from the paper's formulas.

Nothing here knows Keras: it is what the package is compared with.
"""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, dtype=np.float64)))


def alignment(granularity, rows, columns, field_sizes):
    """For every entry of the table, the index of its threshold logit."""
    row, column = np.indices((rows, columns))
    field = np.repeat(np.arange(len(field_sizes)), field_sizes)[row]
    zero = np.zeros_like(row)
    return {
        "global": (zero, zero),
        "dimension": (zero, column),
        "feature": (row, zero),
        "feature_dimension": (row, column),
        "field": (field, zero),
        "field_dimension": (field, column),
    }[granularity]


def thresholded(values, logits, where):
    threshold = sigmoid(logits[where])
    return np.sign(values) * np.maximum(np.abs(values) - threshold, 0)


def gradients(values, logits, where, upstream):
    """Gradients of sum(upstream * S(V, s)) by V and by s."""
    threshold = sigmoid(logits[where])
    alive = np.abs(values) > threshold
    by_values = upstream * alive
    slope = threshold * (1 - threshold)
    by_logits = np.zeros(logits.shape)
    np.add.at(by_logits, where, -slope * np.sign(values) * alive * upstream)
    return by_values, by_logits


class Adam:
    """Adam by Kingma & Ba, the efficient form of section 2, with L2."""

    def __init__(self, learning_rate, l2, epsilon):
        self.learning_rate, self.l2, self.epsilon = learning_rate, l2, epsilon
        self.moments = {}
        self.step = 0

    def update(self, variables, gradients):
        self.step += 1
        rate = self.learning_rate
        rate *= np.sqrt(1 - 0.999**self.step) / (1 - 0.9**self.step)
        for name, gradient in gradients.items():
            gradient = gradient + self.l2 * variables[name]
            m, v = self.moments.get(name, (0.0, 0.0))
            m = 0.9 * m + 0.1 * gradient
            v = 0.999 * v + 0.001 * gradient**2
            self.moments[name] = m, v
            variables[name] -= rate * m / (np.sqrt(v) + self.epsilon)
