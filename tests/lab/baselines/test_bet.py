"""Budgeted embedding tables, against what NumPy or a hand computes."""

from dataclasses import replace

import keras
import numpy as np

from keras_pep.data import Split, load
from keras_pep.lab.baselines import BudgetedTable
from keras_pep.lab.baselines.bet import best_sizes, predicted
from keras_pep.lab.baselines.frequency_groups import Groups
from keras_pep.lab.run.size import Size
from keras_pep.models import FM
from keras_pep.optimizers import AdamL2
from keras_pep.pruning.search import collect

# Two fields, of three and two groups.
COUNTS = np.array([9, 10, 70, 0, 0, 0, 600, 700, 3])


def test_sizes_are_in_proportion_and_add_up_to_the_budget():
    """By hand: groups are (0, 0, 0), (9, 10), (70), (3) and (600, 700)."""
    groups = Groups(COUNTS, [6, 3], [8])
    assert groups.group.tolist() == [1, 1, 2, 0, 0, 0, 4, 4, 3]
    assert groups.features.tolist() == [3, 2, 1, 1, 2]
    weights = np.array([1.0, 2, 4, 2, 20])
    # 16 of the last two, 19 of the others by 13 shares.
    means = groups.means(weights, 35)
    expected = np.minimum(19 / 13 * weights, 8)
    np.testing.assert_allclose(means, expected, rtol=1e-9)
    # 1.46, 2.92, 5.85, 2.92, 8: five are missing, four where most is, and
    # one of three.
    sizes = groups.sizes(means, 35)
    assert sizes.tolist() == [3, 3, 6, 2, 1, 1, 8, 8, 3]
    random = np.random.default_rng(0)
    for budget in range(1, 9 * 8):
        sizes = groups.sizes(groups.means(groups.drawn(random), budget), budget)
        assert sizes.sum() == budget
        assert sizes.min() >= 0
        assert sizes.max() <= 8


def test_the_predictor_is_a_ridge_regression():
    random = np.random.default_rng(0)
    known, others = random.normal(size=(20, 5)), random.normal(size=(7, 5))
    scores = random.normal(size=20)
    centered = known - known.mean(axis=0)
    ridge = 1e-3 * np.square(centered).sum() / 20
    weights = np.linalg.inv(centered.T @ centered + ridge * np.eye(5))
    weights = weights @ centered.T @ (scores - scores.mean())
    expected = (others - known.mean(axis=0)) @ weights + scores.mean()
    found = predicted(known, scores, others)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_the_search_comes_close_to_planted_sizes():
    """Much closer than as many samples do that nothing is learned from."""
    random = np.random.default_rng(0)
    counts = random.zipf(1.5, 300) % 5000
    groups = Groups(counts, [100, 200], [16])
    planted = groups.sizes(groups.means(groups.drawn(random), 900), 900)

    def score(sizes):
        scored.append(-np.abs(sizes - planted).mean())
        return scored[-1]

    scored = []
    found = best_sizes(groups, 900, score)
    assert found.sum() == 900
    assert -np.abs(found - planted).mean() == max(scored)
    assert len(scored) <= 16 + 5 * 6
    blind = [
        -score(groups.sizes(groups.means(groups.drawn(random), 900), 900))
        for _ in range(46)
    ]
    assert -max(scored[:46]) < 0.7 * min(blind)


def test_tickets_keep_the_first_entries_of_rows():
    dataset = load("synthetic")
    rows = dataset.validation
    few = Split(rows.ids[:500], rows.labels[:500])
    dataset = replace(dataset, validation=few)
    keras.utils.set_random_seed(0)
    model = FM(dataset.field_sizes, 8, field_lengths=dataset.field_lengths)
    model.compile(
        AdamL2(0.01), keras.losses.BinaryCrossentropy(from_logits=True)
    )
    initial = keras.ops.convert_to_numpy(model.embedding.embeddings)
    train = dataset.train.ids[:2000], dataset.train.labels[:2000, None]
    budgets = [2 * dataset.feature_count, dataset.feature_count]
    collector = BudgetedTable(budgets, 1, dataset)
    tickets = collect(model, collector, train, epochs=1, batch_size=500)
    assert [ticket.embedding_parameters for ticket in tickets] == budgets
    for ticket in tickets:
        mask = ticket.tables["embedding"].mask()
        assert (mask[:, :-1] >= mask[:, 1:]).all()
        np.testing.assert_array_equal(
            ticket.tables["embedding"].to_dense(), np.where(mask, initial, 0)
        )
    learned = tickets[1].learned_tables()["embedding"].to_dense()
    table = keras.ops.convert_to_numpy(model.embedding.embeddings)
    np.testing.assert_array_equal(learned, table)


def test_as_many_entries_fit_as_a_table_of_prefixes_has_room_for():
    fields = (40, 60)
    size = Size(bytes=500, fields=fields, more=(1, 0))
    budget = size.budget_of("bet", 100, 8, 8)
    # Of 8 scales, and of at most 18 runs their sizes, places and first rows.
    assert budget == 500 - 8 * 4 - 18 - 18 * 2 - 17
    # As many sizes in each field as there can be, and then the largest.
    sizes = np.concatenate([np.arange(n) % 9 for n in fields])
    places = np.flatnonzero(sizes < 8)
    while sizes.sum() < budget:
        place = places[sizes.sum() % places.size]
        sizes[place] += sizes[place] < 8
    sizes[np.flatnonzero(sizes)[: sizes.sum() - budget]] -= 1
    assert sizes.sum() == budget
    assert size.holds_prefixes(sizes, 8)
