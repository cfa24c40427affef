import functools
import importlib.util
import itertools
import re

import pytest
from click.testing import CliRunner

from keras_pep.lab.benchmark import loop, loop_table, size_table, steps
from keras_pep.lab.benchmark.turns import Measured, take_turns
from keras_pep.lab.cli import main

MIB = 2**20


def counting(first, hoard):
    """A program for a process of its own: it counts, and holds memory."""
    yield 0.0
    held = bytearray(hoard)
    for number in itertools.count(first):
        yield float(number + len(held) - hoard)


def failing():
    yield 0.0
    raise ValueError("on purpose")


@pytest.mark.slow
def test_programs_take_turns_in_processes_of_their_own():
    measured = take_turns(
        {
            "small": functools.partial(counting, 10, MIB),
            "large": functools.partial(counting, 20, 200 * MIB),
        },
        blocks=3,
    )
    # The first turn warms up.
    assert measured["small"].milliseconds == [11, 12, 13]
    assert measured["large"].milliseconds == [21, 22, 23]
    assert measured["large"].median == 22
    assert measured["large"].spread() == "21.0 - 23.0"
    difference = measured["large"].memory - measured["small"].memory
    assert 150 * MIB < difference < 250 * MIB


@pytest.mark.slow
def test_a_program_that_fails_is_named_and_nothing_else_said(capfd):
    with pytest.raises(RuntimeError, match=r"'bad' failed.*on purpose"):
        take_turns({"bad": failing}, blocks=1)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "name",
    [
        steps.PEP,
        steps.PEP_L2,
        steps.PEP_ONE,
        steps.ROWS,
        steps.KERAS_LAZY,
        steps.KERAS,
        steps.PEP_KERAS,
        steps.PEP_ONE_KERAS,
    ],
)
def test_every_variant_trains(name):
    turns = steps.keras_steps(name, 3_900, 2)
    for _ in range(3):
        milliseconds = next(turns)
    assert 0 < milliseconds < 60_000


def test_torch_variant_trains():
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    turns = steps._torch_steps(3_900, 2, 8)
    next(turns)
    assert 0 < next(turns) < 60_000


def test_ids_are_zipf_in_no_order():
    ids = steps.zipf_ids(390_000, 2_000)
    assert ids.shape == (2_000, 39)
    assert 0 <= ids.min() < ids.max() < 10_000
    for column in ids.T[:3]:
        counts = sorted(
            [int((column == i).sum()) for i in set(column)], reverse=True
        )
        # 1 / zeta(1.3) of 10,000: 26 %, and 2 ** -1.3 of that.
        assert counts[0] / 2_000 == pytest.approx(0.28, abs=0.06)
        assert counts[1] / counts[0] == pytest.approx(0.41, abs=0.08)
    assert ids.max(axis=0).min() > 5_000


def test_ratios_are_of_medians(monkeypatch):
    times = {
        "PEPEmbedding, LazyAdam, 0.1 M rows": [10.0, 12.0, 11.0],
        "PEPEmbedding, LazyAdam, 1 M rows": [13.2, 13.2, 99.0],
    }

    def made_up(programs, blocks):
        assert blocks == 3
        return {
            title: Measured(times.get(title, [22.0]), 100 * MIB)
            for title in programs
        }

    monkeypatch.setattr(steps, "take_turns", made_up)
    table = steps.step_table(3, rows=(100_000, 1_000_000))
    assert "1 M rows against 0.1 M: 1.20 x the time" in table
    assert "keras.layers.Embedding, Keras Adam, 0.1 M rows: 0.50 x" in table
    # 1 M x (48 x 3 + 3) x 4 bytes are 561 MiB.
    assert "0.18 x table, thresholds and optimizer slots (561 MiB)" in table


def test_sizes_are_those_of_files():
    lines = size_table(rows=1_000, dim=64).splitlines()
    assert "256,000 | 256,000 | 1.0 x" in lines[2]
    kept, memory, file = (
        int(re.sub(",", "", x)) for x in lines[-1].split("|")[2:5]
    )
    assert kept == pytest.approx(640, rel=0.2)
    # An offset for each row and the end, a start for every 32 of them.
    assert memory == file == 5 * kept + 1_001 + 4 * 32


def test_the_loop_is_compared_with_its_bare_step(monkeypatch):
    monkeypatch.setattr(loop, "_ROWS", {"train": 16_000, "validation": 500})
    table = loop_table(epochs=3)
    bare, whole = (
        float(line.split("|")[2]) for line in table.splitlines()[2:4]
    )
    share = int(re.search(r"(\d+)% of the bare", table).group(1))
    assert share == pytest.approx(100 * bare / whole, rel=0.05)


def test_the_command_prints_the_tables_asked_for():
    result = CliRunner().invoke(main, ["benchmark", "--table", "sizes"])
    assert result.exit_code == 0, result.output
    assert "99% pruned" in result.output
    assert "ms per step" not in result.output
