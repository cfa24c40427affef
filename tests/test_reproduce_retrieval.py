"""The program that compares small tables where items are retrieved."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from apps.reproduce.retrieval import Ratings, Triples, cut, figures, main


def slow_figures(scores, relevant, k):
    recalls, ndcgs = [], []
    for row, wanted in zip(scores, relevant, strict=True):
        if not wanted.any():
            continue
        best = sorted(range(len(row)), key=lambda n: -row[n])[:k]
        hits = [bool(wanted[n]) for n in best]
        recalls.append(sum(hits) / wanted.sum())
        gains = [1 / np.log2(n + 2) for n in range(k)]
        most = min(int(wanted.sum()), k)
        dcg = sum(g for g, hit in zip(gains, hits, strict=False) if hit)
        ndcgs.append(dcg / sum(gains[:most]))
    return np.mean(recalls), np.mean(ndcgs)


def test_figures_are_those_of_a_slow_version():
    random = np.random.default_rng(0)
    scores = random.normal(size=(30, 50))
    relevant = random.random((30, 50)) < 0.1
    relevant[3] = False  # nothing to find
    relevant[4] = True  # more than there is room for
    found = figures(scores, relevant)
    for k in (5, 10, 20):
        recall, ndcg = slow_figures(scores, relevant, k)
        assert found[f"recall@{k}"] == pytest.approx(recall)
        assert found[f"ndcg@{k}"] == pytest.approx(ndcg)


def test_every_user_has_half_a_quarter_and_a_quarter(small_movielens):
    ratings = Ratings.read(small_movielens, 0)
    assert (ratings.users, ratings.items) == (50, 40)
    parts = [ratings.train, ratings.choice, ratings.report]
    counts = np.array([np.bincount(part[:, 0]) for part in parts])
    assert counts.sum() == 4000
    shares = np.array([[0.5], [0.25], [0.25]]) * counts.sum(axis=0)
    assert np.abs(counts - shares).max() <= 1
    again = Ratings.read(small_movielens, 1)
    assert not np.array_equal(ratings.train, again.train)


def test_nobody_has_rated_a_negative_item(small_movielens):
    ratings = Ratings.read(small_movielens, 0)
    triples = Triples(ratings, 500, 0)
    assert len(triples) == len(ratings.train) // 500
    drawn = np.concatenate([triples[n][0] for n in range(len(triples))])
    users, liked, others = drawn.T
    assert ratings.rated[users, liked - ratings.users].all()
    assert not ratings.rated[users, others - ratings.users].any()
    before = triples[0][0]
    triples.on_epoch_begin()
    assert not np.array_equal(before, triples[0][0])


def test_a_graph_has_the_mean_of_its_layers(small_movielens):
    from apps.reproduce.retrieval import Retrieval, pep

    ratings = Ratings.read(small_movielens, 0)
    model = Retrieval(ratings, pep(ratings, 4), layers=2)
    table = np.random.default_rng(0).normal(size=(90, 4)).astype(np.float32)
    model(np.zeros((1, 3), np.int32))
    model.embedding.clock.assign(-np.inf)
    model.embedding.embeddings.assign(table)
    matrix = np.zeros((90, 90))
    matrix[:50, 50:] = ratings.rated
    matrix += matrix.T
    degrees = matrix.sum(axis=1)
    matrix /= np.sqrt(np.outer(degrees, degrees))
    expected = (table + matrix @ table + matrix @ matrix @ table) / 3
    np.testing.assert_allclose(model.vectors(), expected, atol=1e-5)
    ids = np.array([[3, 50, 60]])
    wanted = expected[3] @ (expected[50] - expected[60])
    assert float(model(ids)[0]) == pytest.approx(wanted, abs=1e-4)


def test_a_cut_keeps_as_many_entries():
    table = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
    kept = cut(table, 60)
    assert kept.shape == (30, 8)
    assert kept.values.size == 60


@pytest.mark.slow
@pytest.mark.requires_tensorflow
def test_methods_are_trained_and_results_kept(small_movielens, tmp_path):
    out = tmp_path / "found.jsonl"
    options = [
        *("--data-dir", str(small_movielens), "--columns", "4"),
        *("--epochs", "2", "--batch", "500", "--seeds", "0", "--rate", "0.05"),
        *("--sparsity", "0.5", "--out", str(out)),
    ]
    methods = ("full", "uniform", "keras-pep", "pep", "magnitude", "hashing")
    for method in methods:
        options += ["--method", method]
    done = CliRunner().invoke(main, options, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["method"] for line in lines] == [*methods]
    for line in lines:
        entries = "360" if line["method"] == "full" else "180"
        assert [*line["found"]] == [entries]
        # Half of the items are liked by half of the users.
        assert line["found"][entries]["recall@20"] > 0.4, line
    again = CliRunner().invoke(main, options, catch_exceptions=False)
    assert len(out.read_text().splitlines()) == len(lines)
    assert again.stdout == done.stdout
    assert again.stdout.count("\n| ") == len(methods) + 1
