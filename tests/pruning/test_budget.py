"""The schedule of the search by budget."""

import pytest

from keras_pep.pruning import Schedule


def test_shapes_of_a_schedule():
    """To 1 %: half way down it is 10 % by one factor a step, 50.5 % evenly."""
    middle = {
        shape: Schedule(0.0, 1.0, shape).share(0.5, 0.01)
        for shape in ("exponential", "cubic", "linear")
    }
    assert middle == {
        "exponential": pytest.approx(0.1),
        "cubic": pytest.approx(0.01 + 0.99 / 8),
        "linear": pytest.approx(0.505),
    }
    schedule = Schedule(begin=0.2, end=0.7)
    assert schedule.share(0.2, 0.01) == 1
    assert schedule.share(0.7, 0.01) == schedule.share(1, 0.01) == 0.01
    for wrong in ({"begin": 0.5, "end": 0.5}, {"end": 1.1}, {"shape": "step"}):
        with pytest.raises(ValueError, match=r"schedule must|`shape` must"):
            Schedule(**wrong)
