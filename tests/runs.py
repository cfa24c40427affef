"""Run directories as `keras-pep train` leaves them, made without training."""

import numpy as np

from keras_pep.data.fields import Field, Vocabulary
from keras_pep.lab.run import Config, RunDirectory
from keras_pep.lab.run.directory import Stage
from keras_pep.pruning import Ticket
from keras_pep.sparse import SparseTable

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(2)>",
    "<b>bold</b> &lt;i&gt; %{x} $x^2$",
    "<!-- \u2028 -->",
    "rever\u202esed",
]
DIM = 8
USERS = 31
BUDGETS = (60, 20)


def vocabularies(hostile=HOSTILE):
    return {
        "user": Vocabulary(
            Field("user", "user"),
            np.array([*hostile, *(f"u{n}" for n in range(USERS - 6))], object),
            unknown=True,
        ),
        "price": Vocabulary(
            Field("price", "price", "number", (1.5, 20.0)),
            np.array(["", "0", "1", "2"], object),
        ),
    }


def feature_counts(fields):
    """Falling from 2,900 to nothing, as those of a real field do."""
    features = sum(map(len, fields.values()))
    return (100 * np.arange(features, 0, -1) - 100) ** 2 // 4000


def ticket(budget, features, dim=DIM):
    """The first features keep the most, those of each field."""
    rows, columns = np.divmod(np.arange(features * dim), dim)
    order = np.argsort(rows % USERS + 3 * columns, kind="stable")
    mask = np.zeros(features * dim, dtype=bool)
    mask[order[:budget]] = True
    table = np.ones((features, dim), np.float32)
    kept = SparseTable.from_dense(table, mask.reshape(table.shape))
    return Ticket(tables={"embedding": kept}, budget=budget, step=10 * budget)


def figures(auc):
    return {"auc": auc, "logloss": round(1.2 - auc, 4)}


def write_run(
    folder, *, baselines=True, gain=0.0, fields=None, budgets=BUDGETS
):
    """Writes a run of three models and two baselines.

    Args:
        folder: Where to.
        baselines: Whether there are any.
        gain: What is added to the AUC of every model.
        fields: Vocabularies.
        budgets: Two of them.
    """
    fields = vocabularies() if fields is None else fields
    features = sum(map(len, fields.values()))
    large, small = budgets
    directory = RunDirectory(folder)
    directory.create()
    directory.write_vocabularies(fields)
    directory.write_counts(feature_counts(fields))

    def entry(kept, auc, **more):
        return {
            "embedding_parameters": kept,
            "total_parameters": kept + features + 1,
            "bytes": 5 * kept + 4 * features,
            "exported_bytes": {
                name: {"table": each * kept, "model": each * kept + features}
                for name, each in (("float32", 5), ("int8", 2))
            },
            "steps": 100,
            "seconds": 1.0,
            "validation": figures(round(auc + gain + 0.01, 4)),
            "test": figures(round(auc + gain, 4)),
            **more,
        }

    def pruned(budget, auc, **more):
        sparsity = round(1 - budget / (features * DIM), 6)
        more = {"search_step": 10 * budget, **more}
        return entry(budget, auc, target=budget, sparsity=sparsity, **more)

    for budget in budgets:
        directory.save_ticket(ticket(budget, features))
    directory.write_kept(
        [
            {
                **{"stage": stage, "step": step, "embedding_parameters": kept},
                "standard_error": 7.4 if step == 400 else 0.0,
            }
            for stage in ("search", "magnitude")[: 1 + baselines]
            for step, kept in ((8, features * DIM), (400, 90), (600, 20))
        ]
    )
    directory.write_json(
        "config.json",
        {
            **Config(
                dataset="/data/clicks.csv",
                search="budget",
                embedding_dim=DIM,
                fields=("user", "price:number"),
            ).to_dict(),
            "learning_rate": 0.001,
            "command": "keras-pep train --dataset 'a <b> & c.csv'",
            "environment": {"python": "3.11.7", "keras": "3.15.1"},
            "data_fingerprint": "00ff",
        },
    )
    stages = ["dense", "search", *(f"budget-{budget}" for budget in budgets)]
    if baselines:
        stages += ["magnitude", *(f"magnitude-{budget}" for budget in budgets)]
    directory.write_history(history(stages))
    directory.write_json(
        "metrics.json",
        {
            "dataset": "<i>clicks</i>",
            "features": "user, price",
            "model": "fm",
            "embedding_dim": DIM,
            "seed": 0,
            "rows": {"train": 8000, "validation": 1000, "test": 1000},
            "fields": 2,
            "feature_count": features,
            "dense": entry(features * DIM, 0.75),
            "search": {
                "method": "budget",
                "granularity": "global",
                "steps": 600,
                "seconds": 2.0,
            },
            "budgets_not_reached": [],
            "budgets": [pruned(large, 0.7487), pruned(small, 0.7401)],
            "baselines": [
                pruned(large, 0.745, method="magnitude"),
                pruned(small, 0.73, method="magnitude"),
            ]
            * baselines,
        },
    )
    return folder


def history(stages):
    """Three epochs each, the second of which is the best."""
    return [
        {
            "stage": stage,
            "epoch": epoch,
            "step": 8 * epoch,
            "seconds": 30.0,
            "loss": 0.6 - epoch / 100,
            "val_auc": auc,
            "val_logloss": 1.2 - auc,
            "embedding_parameters": 300 - epoch,
        }
        for stage in stages
        for epoch, auc in ((1, 0.7), (2, 0.75), (3, 0.74))
    ]


def unfinish(run, stages=("dense", "search", "budget-60"), begun="budget-20"):
    """Makes a run of `write_run` one that was interrupted.

    Args:
        run: The run.
        stages: Of which there are results.
        begun: The one of which there are epochs besides.
    """
    directory = RunDirectory(run)
    metrics = directory.read_json("metrics.json")
    (run / "metrics.json").unlink()
    results = {"dense": metrics["dense"]}
    for method, entries in (
        ("budget", metrics["budgets"]),
        ("magnitude", metrics["baselines"]),
    ):
        searched = "search" if method == "budget" else method
        results[searched] = {
            "steps": 600,
            "seconds": 2.0,
            "embedding_parameters": 20,
            "budgets": [entry["target"] for entry in entries],
        }
        for entry in entries:
            entry.pop("method", None)
            results[f"{method}-{entry['target']}"] = entry
    rows = history([*stages, *([begun] if begun else [])])
    (run / "history.csv").unlink()
    if rows:
        directory.write_history(rows)
    for number, name in enumerate(stages):
        directory.write_stage(name, Stage(number, results[name]))
    return run


def change(path, **values):
    """Changes some values of a JSON file."""
    directory = RunDirectory(path.parent)
    directory.write_json(
        path.name, {**directory.read_json(path.name), **values}
    )
