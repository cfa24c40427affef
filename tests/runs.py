"""Run directories as `keras-pep train` leaves them, made without training."""

import numpy as np

from keras_pep.data.fields import Field, Vocabulary
from keras_pep.run import RunDirectory
from keras_pep.search import Ticket
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
            {"stage": stage, "step": step, "embedding_parameters": kept}
            for stage in ("search", "magnitude")[: 1 + baselines]
            for step, kept in ((8, features * DIM), (400, 90), (600, 20))
        ]
    )
    directory.write_json(
        "config.json",
        {
            "dataset": "clicks.csv",
            "learning_rate": 0.001,
            "fields": ["user", "price:number"],
            "command": "keras-pep train --dataset 'a <b> & c.csv'",
            "environment": {"python": "3.11.7", "keras": "3.15.1"},
            "data_fingerprint": "00ff",
        },
    )
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


def change(path, **values):
    """Changes some values of a JSON file."""
    directory = RunDirectory(path.parent)
    directory.write_json(
        path.name, {**directory.read_json(path.name), **values}
    )
