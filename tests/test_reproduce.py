from apps.reproduce.__main__ import table


def test_table_gives_mean_and_spread():
    runs = [
        {
            "seed": seed,
            "dense": {
                "embedding_parameters": 1000,
                "test": {"auc": auc},
                "bytes": 4000,
            },
            "budgets": [
                {
                    "target": 100,
                    "sparsity": 0.9,
                    "test": {"auc": auc - 0.01},
                    "bytes": 600,
                    "search_step": 1000 + seed,
                }
            ],
            "baselines": [
                {
                    "method": "uniform",
                    "target": 100,
                    "test": {"auc": auc - 0.1},
                    "bytes": 400,
                }
            ],
        }
        for seed, auc in ((0, 0.80), (1, 0.82))
    ]
    rows = [line.strip("| ").split(" | ") for line in table(runs).splitlines()]
    assert rows[0][:5] == ["budget", "pruned", "test AUC", "seed 0", "seed 1"]
    # The standard deviation of 0.80 and 0.82 is 0.02 / sqrt(2).
    assert rows[2][:3] == ["1,000", "0.0%", "0.8100 ± 0.0141"]
    assert rows[3][:3] == ["100", "90.0%", "0.8000 ± 0.0141"]
    assert rows[3][5:] == ["1,000 / 1,001", "600"]
    assert rows[4][:3] == ["100, uniform", "0.0%", "0.7100 ± 0.0141"]
    assert rows[4][6:] == ["400"]
