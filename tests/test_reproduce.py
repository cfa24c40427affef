import pytest

from apps.reproduce.tables import costs, frontier, table


@pytest.fixture
def runs():
    def entry(target, auc, **more):
        return {
            "target": target,
            "sparsity": 1 - target / 1000,
            "test": {"auc": auc},
            "seconds": 30.0,
            **more,
        }

    return [
        {
            "seed": seed,
            "dense": {
                "embedding_parameters": 1000,
                "test": {"auc": auc},
                "seconds_to_best": 20.0,
            },
            "search": {"seconds": 10.0 * (seed + 1)},
            "budgets": [entry(50, auc - 0.02), entry(100, auc - 0.01)],
            "baselines": [entry(100, auc - 0.1, method="uniform")]
            + [entry(50, 0.7, method="paper")] * seed,
        }
        for seed, auc in ((0, 0.80), (1, 0.82))
    ]


def test_table_gives_mean_and_spread_of_every_method(runs):
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table(runs).splitlines()
    ]
    assert rows[0] == ["budget", "pruned", "keras-pep", "uniform", "paper"]
    # The standard deviation of 0.80 and 0.82 is 0.02 / sqrt(2).
    assert rows[2:] == [
        ["1,000", "0.0%", "dense 0.8100 ± 0.0141", "", ""],
        ["100", "90.0%", "0.8000 ± 0.0141", "0.7100 ± 0.0141", "-"],
        ["50", "95.0%", "0.7900 ± 0.0141", "-", "0.7000 (1 seed)"],
    ]


def test_costs_are_told_in_times_of_the_dense_model(runs):
    assert costs(runs).endswith("search 0.50 - 1.00, a retraining 1.50 - 1.50.")
    assert costs([{**runs[0], "dense": None}]) == ""
    assert costs([{**runs[0], "search": {"seconds": None}}]) == ""


@pytest.fixture
def by_bytes():
    def entry(size, auc, method, **more):
        return {
            "method": method,
            "test": {"auc": auc},
            "validation": {"auc": auc},
            "exported_bytes": {"int8": {"table": size}},
            **more,
        }

    return [
        {
            "seconds": 120.0,
            "dense": entry(8000, auc, "dense"),
            "budgets": [
                entry(3900, auc - 0.01, "one-shot", max_bytes=4000),
                entry(1900, auc - 0.03, method, max_bytes=2000),
            ],
            "baselines": [
                entry(4000, auc - 0.02, "uniform"),
                entry(2000, auc - 0.02, "uniform"),
                entry(4001, auc, "magnitude"),  # a byte too many
                entry(1000, auc - 0.04, "magnitude"),
            ],
        }
        for auc, method in ((0.80, "search"), (0.82, "one-shot"))
    ]


def test_the_frontier_is_by_bytes(by_bytes):
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in frontier({"films": by_bytes}).splitlines()
        if line
    ]
    assert rows[0][-3:] == ["uniform", "magnitude", "behind"]
    assert rows[2][:4] == ["films", "dense", "8.0 kB", "0.8100 ± 0.0141"]
    assert rows[3][:5] == ["", "1/2", "3.9 kB", "0.8000 ± 0.0141", "one-shot"]
    assert rows[3][-1] == "0.0000"
    assert rows[4][3:] == [
        *("0.7800 ± 0.0141", "search, one-shot"),
        *("0.7900 ± 0.0141", "0.7700 ± 0.0141", "0.0100"),
    ]
    assert rows[5:] == [
        [
            "Ahead, or behind by at most 0.0005: 1 of 2 sizes. "
            "Behind by at most 0.0100."
        ],
        ["A run trained for 2.0 minutes, rivals included."],
    ]
