"""Fields that are hashed: the same ids wherever a value is read."""

import json

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import keras_pep
from keras_pep import data
from keras_pep.data import DataError, Field
from keras_pep.lab.run.artifacts import _read_vocabularies, _write_vocabularies
from keras_pep.lab.scoring import (
    score_file,
    scorer_of_model,
    scorer_of_saved_model,
)
from keras_pep.serving import describe, export
from tests.serving.serving import in_c_runtime
from tests.serving.test_export import CLOSE, probabilities
from tests.serving.test_renumbering import forced, model_of

BUCKETS = 50


@pytest.fixture
def own(tmp_path):
    """Rows of users, some of them written with a fraction or a blank."""
    random = np.random.default_rng(0)
    users = random.integers(0, 400, 1000)
    frame = pd.DataFrame(
        {
            "user": [f"{n}.0" if n % 3 else f"{n}" for n in users],
            "item": random.choice(["a", "b\n", "ç", ""], 1000),
            "clicked": random.integers(0, 2, 1000),
        }
    )
    frame.to_csv(tmp_path / "own.csv", index=False)
    return tmp_path / "own.csv", frame, users


def load(path, **settings):
    return data.load(
        path,
        label="clicked",
        fields=[f"user:hash({BUCKETS})", "item"],
        **settings,
    )


def test_ids_are_those_of_tensorflow(own):
    path, _, users = own
    dataset = load(path)
    drawn = np.random.default_rng(0).random(1000)
    places = np.searchsorted([0.8, 0.9], drawn, "right")
    expected = tf.strings.to_hash_bucket_fast(users.astype(str), BUCKETS)
    for n, split in enumerate(dataset.splits.values()):
        np.testing.assert_array_equal(
            split.ids[:, 0], expected.numpy()[places == n]
        )
    assert dataset.field_sizes[0] == BUCKETS
    assert dataset.unknown["test"][0] == 0


def test_the_hash_is_the_documented_one():
    """The example of TensorFlow's own documentation."""
    made, _ = Field("a", "a", "hash", buckets=3).values(
        ["Hello", "TensorFlow", "2.x"]
    )
    assert made.tolist() == ["0", "2", "2"]


@pytest.mark.parametrize(
    ("renumbered", "quantize"), [(False, "int8"), (True, None)]
)
def test_exported_graphs_hash_alike(
    own, tmp_path, monkeypatch, renumbered, quantize
):
    path, frame, _ = own
    dataset = load(path)
    model, _ = model_of(dataset)
    monkeypatch.setattr(
        export, "renumbering", forced if renumbered else lambda *_: None
    )
    made = keras_pep.export_saved_model(
        model, tmp_path / "made" / "1", dataset, quantize
    )
    files = [*made.path.glob("assets/vocabulary-0-*")]
    assert len(files) == renumbered  # of a hash there is none to keep
    raw = {name: frame[name].to_numpy() for name in ("user", "item")}
    everything = np.concatenate([s.ids for s in dataset.splits.values()])
    by_value, by_id = in_c_runtime(
        made.path, [("serving_default", raw), ("ids", {"ids": everything})]
    )
    np.testing.assert_allclose(
        by_id["probability"], probabilities(model, everything), atol=CLOSE
    )
    drawn = np.random.default_rng(0).random(1000)
    order = np.argsort(
        np.searchsorted([0.8, 0.9], drawn, "right"), kind="stable"
    )
    np.testing.assert_allclose(
        np.array(by_value["probability"])[order],
        by_id["probability"],
        atol=CLOSE,
    )
    # And so do both ways of `keras-pep predict`, without a word.
    scores = []
    description = describe(made.path)
    for score, columns in (
        scorer_of_model(model, dataset.vocabularies),
        scorer_of_saved_model(description),
    ):
        target = tmp_path / f"{len(scores)}.csv"
        score_file(score, columns, path, target)
        scores.append(pd.read_csv(target)["probability"])
    np.testing.assert_allclose(scores[0], scores[1], atol=CLOSE)
    np.testing.assert_allclose(scores[0], by_value["probability"], atol=CLOSE)


def test_a_run_keeps_the_number_of_buckets(own, tmp_path):
    fields = load(own[0]).vocabularies
    path = tmp_path / "vocabularies.json"
    _write_vocabularies(path, fields)
    again = _read_vocabularies(path)
    assert again["user"].field == fields["user"].field
    assert len(again["user"]) == BUCKETS
    assert len(json.dumps(fields["user"].to_dict())) < 200


@pytest.mark.parametrize("kind", ["hash", "hash(1)", "hash(many)", "hash()"])
def test_a_hash_needs_buckets(own, kind):
    with pytest.raises(DataError, match=r"as in user:hash\(1048576\)"):
        data.load(own[0], label="clicked", fields=[f"user:{kind}"])
