"""A dataset of one's own, with fields of every kind, and a model of it."""

import csv

import numpy as np

FIELDS = ["user id", "city", "price", "when", "tags:list", "seen:log"]


def raw_rows(count, seed=0):
    """Rows of every kind of field, some of their values missing or odd."""
    random = np.random.default_rng(seed)
    cities = ["Köln", "Paris", "", "a\tb", "two\nlines", r"back\slash", "'"]
    tags = ["red", "green", "blue", "red|red", "blue|", "", "|", "pink|red|x"]
    zones = ["", "Z", "+02:00", "-0530"]
    rows = []
    for _ in range(count):
        day, hour, minute = random.integers(1, 29), *random.integers(0, 24, 2)
        when = f"2026-0{random.integers(1, 10)}-{day:02} {hour:02}:{minute:02}"
        rows.append(
            {
                "user id": str(random.zipf(1.5) % 40),
                "city": random.choice(cities),
                "price": random.choice(["", f"{random.normal():.3f}", "7.5"]),
                "when": when + random.choice(zones),
                "tags": "|".join(random.choice(tags, random.integers(1, 4))),
                "seen": random.choice(["", "-1", "0", "2", "3", "1200"]),
            }
        )
    return rows


def labelled_rows(count):
    """The same with the label `clicked`."""
    random = np.random.default_rng(1)
    return [
        {"clicked": int(random.random() < 0.4), **row}
        for row in raw_rows(count)
    ]


def write_csv(path, rows, delimiter=","):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def drawn(model, seed=0, density=0.3):
    """The model with random weights, most of its table pruned away."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        if "float" in weight.dtype and weight.name != "threshold_logits":
            weight.assign(np.abs(random.normal(0, 0.3, weight.shape)))
    table = model.embedding.embeddings
    mask = random.random(table.shape) < density
    mask &= random.random((table.shape[0], 1)) < 0.6
    table.assign(random.normal(0, 0.5, table.shape) * mask)
    return model
