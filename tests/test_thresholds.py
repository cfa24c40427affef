import numpy as np
import pytest

from keras_pep.thresholds import field_of, logit_shape, soft_threshold


def test_soft_threshold_by_hand():
    values = np.array([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0])
    expected = [-2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0]
    np.testing.assert_array_equal(soft_threshold(values, 1.0), expected)
    np.testing.assert_array_equal(soft_threshold(values, 0.0), values)


@pytest.mark.parametrize(
    ("granularity", "shape"),
    [
        ("global", (1, 1)),
        ("dimension", (1, 8)),
        ("feature", (100, 1)),
        ("feature_dimension", (100, 8)),
        ("field", (5, 1)),
        ("field_dimension", (5, 8)),
    ],
)
def test_logit_shape(granularity, shape):
    assert logit_shape(granularity, 100, 8, 5) == shape


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_field_of(dtype):
    rows = np.arange(6, dtype=dtype)
    assert np.array(field_of(rows, (1, 3, 2))).tolist() == [0, 1, 1, 1, 2, 2]
