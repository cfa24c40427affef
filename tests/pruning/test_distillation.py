import keras
import numpy as np
import pytest

import keras_pep


def teacher():
    """Gives its input as the logit."""
    inputs = keras.Input((1,))
    return keras.Model(inputs, keras.layers.Identity()(inputs))


def test_labels_are_mixed_with_probabilities():
    logits = np.log([[1.0], [3.0], [1 / 3]])  # of 0.5, 0.75 and 0.25
    labels = np.array([0.0, 1.0, 1.0], dtype="float32")
    for share, expected in (
        (0.0, [0.0, 1.0, 1.0]),
        (0.5, [0.25, 0.875, 0.625]),
        (1.0, [0.5, 0.75, 0.25]),
    ):
        mixed = keras_pep.soft_labels(teacher(), logits, labels, share)
        assert mixed.dtype == "float32"
        # Float32 has seven digits.
        np.testing.assert_allclose(mixed, expected, rtol=1e-6)


def test_sure_teachers_do_not_overflow():
    mixed = keras_pep.soft_labels(
        teacher(), np.array([[1e4], [-1e4]]), np.array([[0.0], [0.0]])
    )
    np.testing.assert_array_equal(mixed, [[0.5], [0.0]])


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_refused_outside_of_0_to_1(share):
    with pytest.raises(ValueError, match="share="):
        keras_pep.soft_labels(teacher(), np.zeros((2, 1)), np.zeros(2), share)


def test_one_logit_is_needed_for_each_label():
    with pytest.raises(ValueError, match="one logit for each label"):
        keras_pep.soft_labels(teacher(), np.zeros((3, 1)), np.zeros(2))
