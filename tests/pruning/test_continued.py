"""A model that goes on when there are new features, and some are gone."""

import keras
import numpy as np
import pytest

import keras_pep
from keras_pep.data import Field, Vocabulary
from keras_pep.pruning import cut, grown, pep_layers
from keras_pep.pruning.ticket import Ticket
from keras_pep.sparse import SparseTable

FIELD = Field("user", "user")


def vocabulary(*values):
    return Vocabulary(FIELD, np.array(values, object), unknown=True)


def test_ids_stay_and_places_are_free_for_one_version():
    first = vocabulary("ann", "bob", "cy")
    counts = {"ann": 0.4, "bob": 5, "dan": 1.9, "eve": 7}
    second = first.extended(counts, min_count=2, evict_below=0.5)
    assert list(second) == [None, None, "bob", None, "eve"]
    third = second.extended({"bob": 5, "eve": 5, "fay": 2, "gil": 3, "hal": 2})
    assert list(third) == [None, "gil", "bob", "fay", "eve", "hal"]
    assert second.ids_in(first).tolist() == [0, -2, 2, -2, -1]
    assert third.ids_in(second).tolist() == [0, -1, 2, -1, 4, -1]
    assert Vocabulary.from_dict(second.to_dict()).ids_in(second).tolist() == [
        *(0, -2, 2, -2, 4)
    ]


def test_a_value_keeps_its_id_over_thirty_versions():
    random = np.random.default_rng(0)
    now, ids, counts = vocabulary("u0"), {}, {"u0": 1.0}
    for version in range(30):
        counts = {value: 0.6 * count for value, count in counts.items()}
        for number in random.integers(0, 20 + 3 * version, 30):
            counts[f"u{number}"] = counts.get(f"u{number}", 0) + 1
        before, now = now, now.extended(counts, 2, 0.3)
        values = {value: n for n, value in enumerate(now) if value is not None}
        for value in {*before} & {*values}:
            assert list(before)[values[value]] == value
        assert len(values) == len({*values.values()})
        ids.update(values)
    assert None in list(now)[1:]  # some have gone


def small(kind=keras_pep.models.FM, **arguments):
    """A model with rows of two and of no entries, its weights all different."""
    table = np.arange(1, 9, dtype=np.float32).reshape(4, 2) / 8
    mask = np.array([[1, 1], [1, 0], [0, 0], [1, 1]], bool)
    layer = keras_pep.PrunedEmbedding.from_dense(table, mask, name="embedding")
    model = kind([2, 2], 2, layer, **arguments)
    if hasattr(model, "first_order"):
        model.first_order.kernel.assign([[0.1], [0.2], [0.3], [0.4]])
        model.first_order.bias.assign([0.7])
    return model


def compiled(model, optimizer):
    model.compile(optimizer, keras.losses.BinaryCrossentropy(from_logits=True))
    return model


@pytest.mark.parametrize(
    "kind", [keras_pep.models.FM, keras_pep.models.DeepFM, keras_pep.models.DCN]
)
def test_known_values_score_as_before(kind):
    model = small(kind)
    # Id 1 of the first field is gone, a new value has its place.
    made = grown(model, [np.array([0, -1, -1]), np.array([0, 1, -2])])
    ids = np.array([[0, 0], [0, 1]])
    np.testing.assert_allclose(
        made.predict(ids, verbose=0), model.predict(ids, verbose=0), atol=1e-6
    )


def test_a_place_that_was_free_answers_with_no_stranger():
    """Neither by vector nor by first-order weight."""
    model = small()
    planted = model.embedding.sparse().to_dense()
    planted[1] = [9.0, 9.0]
    layer = keras_pep.PrunedEmbedding.from_dense(planted, name="embedding")
    model = keras_pep.models.FM([2, 2], 2, layer)
    model.first_order.kernel.assign([[0.1], [9.0], [0.3], [0.4]])
    made = grown(model, [np.array([0, -2]), np.array([0, 1])])
    assert made.embedding.sparse().to_dense()[1].tolist() == [0, 0]
    assert made.first_order.kernel.numpy()[1].tolist() == [0]
    later = grown(made, [np.array([0, -1]), np.array([0, 1])])
    row = later.embedding.sparse().to_dense()[1]
    assert 0 < np.abs(row).max() <= np.sqrt(6 / (4 + 2))  # as it is drawn
    assert later.first_order.kernel.numpy()[1].tolist() == [0]


def test_what_was_pruned_stays_so_and_new_rows_are_trained():
    made = grown(small(), [np.array([0, 1]), np.array([0, 1, -1])])
    mask = made.embedding.sparse().mask()
    assert mask.tolist() == [[1, 1], [1, 0], [0, 0], [1, 1], [1, 1]]
    compiled(made, keras_pep.optimizers.AdamL2(0.1))
    ids = np.array([[0, 0], [1, 1], [1, 2], [0, 2]])
    before = made.embedding.sparse().to_dense()
    made.fit(ids, np.array([0, 1, 0, 1]), verbose=0)
    after = made.embedding.sparse()
    assert after.mask().tolist() == mask.tolist()
    assert (after.to_dense() != before)[mask].all()


def test_cut_keeps_prefixes_by_what_follows():
    table = np.array([[0.1, 3.0], [2.0, 0.5], [1.0, 0.0]])
    layer = keras_pep.PEPEmbedding(3, 2, name="embedding")
    layer.build()
    layer.assign_sparse(SparseTable.from_dense(table))
    model = keras.Sequential([layer])
    cut(model, 4)
    assert layer.mask().tolist() == [[1, 1], [1, 0], [1, 0]]
    free = np.array([[0.0, 3.0], [2.0, 0.5], [1.0, 0.0]])
    layer.assign_sparse(SparseTable.from_dense(free))
    cut(model, 3)
    assert layer.mask().tolist() == [[0, 1], [1, 0], [1, 0]]


def test_a_functional_model_by_the_names_of_layers():
    inputs = keras.Input((1,), dtype="int32")
    table = keras_pep.PEPEmbedding(3, 2, name="items")
    outputs = keras.layers.Dense(1)(keras.layers.Flatten()(table(inputs)))
    model = keras.Model(inputs, outputs)
    made = grown(model, {"items": np.array([2, -1, 0, 1])})
    np.testing.assert_allclose(
        made.predict(np.array([[0], [2], [3]]), verbose=0),
        model.predict(np.array([[2], [0], [1]]), verbose=0),
        atol=1e-6,
    )


@pytest.mark.parametrize("optimizer", ["AdamL2", "LazyAdam", "RowwiseAdagrad"])
def test_the_state_of_the_optimizer_goes_with_its_rows(optimizer):
    """Without new rows a step is the one that the model would have taken."""
    ids, labels = np.array([[0, 0], [1, 1], [0, 1]]), np.array([0, 1, 1])
    make = getattr(keras_pep.optimizers, optimizer)
    model = compiled(small(), make(0.05))
    layer = keras_pep.PEPEmbedding(4, 2, name="embedding")
    model = compiled(keras_pep.models.FM([2, 2], 2, layer), make(0.05))
    layer.assign_sparse(
        SparseTable.from_dense(small().embedding.sparse().to_dense())
    )
    model.fit(ids, labels, epochs=3, shuffle=False, verbose=0)
    # The ids of the first field change places.
    made = grown(model, [np.array([1, 0]), np.array([0, 1])])
    other = np.column_stack([1 - ids[:, 0], ids[:, 1]])
    for each, x in ((model, ids), (made, other)):
        each.fit(x, labels, shuffle=False, verbose=0)
    np.testing.assert_allclose(
        made.predict(other, verbose=0), model.predict(ids, verbose=0), atol=1e-5
    )


def test_continued_keeps_the_size_and_learns_new_features():
    random = np.random.default_rng(0)
    effect = random.normal(0, 2, 40)

    def rows(below):
        ids = random.integers(0, [below, 20], (2000, 2))
        return ids, (effect[ids[:, 0]] > 0).astype(np.float32)

    model = compiled(
        keras_pep.models.FM([20, 20], 4), keras_pep.optimizers.AdamL2(0.05)
    )
    small = keras_pep.prune(model, rows(20), sparsity=0.5, epochs=4)
    old = np.arange(20)
    later = keras_pep.continued(
        small, [np.append(old, [-1] * 20), old], rows(40), epochs=4
    )
    assert later.embedding.num_values <= small.embedding.num_values == 80
    ids, labels = rows(40)
    found = keras_pep.metrics.evaluate(later, ids, labels)
    assert found["auc"] > 0.97
    assert later.optimizer.iterations > small.optimizer.iterations


def test_a_ticket_is_carried_over():
    table = SparseTable.from_dense([[1.0, 2.0], [0.0, 3.0], [4.0, 0.0]])
    ticket = Ticket(
        {"embedding": table}, learned_values={"embedding": -table.values}
    )
    later = ticket.extended({"embedding": np.array([1, -1, -2, 0])})
    assert later.tables["embedding"].mask().tolist() == [
        *([0, 1], [1, 1], [0, 0], [1, 1]),
    ]
    assert later.learned_tables()["embedding"].to_dense().tolist() == [
        *([0, -3], [0, 0], [0, 0], [-1, -2]),
    ]


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([[0, 1]], "each of the 2 fields"),
        ([[0, 2], [0, 1]], "below 2"),
        ([[0, 0], [0, 1]], "once at most"),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows, found):
    with pytest.raises(ValueError, match=found):
        grown(small(), rows)
    assert pep_layers(grown(small(), [[0, 1], [0, 1]]))
