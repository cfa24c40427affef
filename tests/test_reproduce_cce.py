"""The program that makes the table of compressors."""

import json

import pytest

from tests.backends import run_on

pytest.importorskip("jax")

from apps.reproduce.cce import Data, table


@pytest.mark.parametrize("rule", ["published", "clean"])
def test_the_last_ratings_of_users_are_held_out(small_movielens, rule):
    data = Data.read(small_movielens, rule)
    users = 50
    assert (data.users, data.films) == (users, 40)
    rated = [line.split("::") for line in lines_of(small_movielens)]
    times = {}
    for user, _, rating, time in rated:
        if rating != "3":
            times.setdefault(int(user), []).append((int(time), int(rating) > 3))
    last = [sorted(times[u], key=lambda x: x[0])[-2:] for u in sorted(times)]
    expected = [liked for ratings in last for _, liked in ratings]
    assert data.report.labels.tolist() == expected
    assert len(data.report.labels) == 2 * users
    rows = sum(map(len, times.values()))
    held_out = 0 if rule == "published" else users
    assert len(data.train.labels) == rows - 2 * users - held_out
    assert data.train.ids[:, 1].min() >= users  # films follow users
    assert (data.choice is data.report) == (rule == "published")


def lines_of(folder):
    return (folder / "ratings.dat").read_text().splitlines()


def test_a_table_has_means_of_seeds():
    def result(method, budget, seed, **found):
        return {"method": method, "budget": budget, "seed": seed, **found}

    results = [
        result("robe", 8192, 1, report=0.75),
        result("robe", 8192, 2, report=0.77),
        result("low-rank", 8192, 1),  # too few parameters
        result("low-rank", 16384, 1, report=0.85),
    ]
    assert table(results).splitlines() == [
        "| method | 8,192 | 16,384 |",
        "| --- | ---: | ---: |",
        "| robe | 0.7600 | - |",
        "| low-rank | - | 0.8500 |",
    ]


PROGRAM = """
import json, sys
from click.testing import CliRunner
from apps.reproduce import cce
cce._BATCH = 24  # or so few rows are few steps
done = CliRunner().invoke(cce.main, sys.argv[1:], catch_exceptions=False)
print(json.dumps(done.stdout.splitlines()))
"""


@pytest.mark.slow
def test_methods_are_trained_and_results_kept(small_movielens, tmp_path):
    out = tmp_path / "cce.jsonl"
    arguments = [
        *("-c", PROGRAM, "--data-dir", str(small_movielens)),
        *("--budget", "512", "--seeds", "1", "--out", str(out)),
        *(x for m in ("keras-pep", "narrow", "cce") for x in ("--method", m)),
    ]
    lines = run_on("jax", *arguments)
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        *("| keras-pep", "| narrow", "| cce")
    ]
    found = [float(line.split(" | ")[1].rstrip(" |")) for line in lines[2:]]
    # Of 100 rows: with no training at all 0.50, give or take 0.06.
    assert min(found[:2]) > 0.9
    assert found[2] > 0.65
    kept = [json.loads(line) for line in out.read_text().splitlines()]
    assert [each["parameters"] for each in kept] == [512, 450, 512]
