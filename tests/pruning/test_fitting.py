"""Data that `search` and `retrain` take, and models that they build."""

import functools
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_pep
from keras_pep.pruning import pruned_model

ROWS, SIZE = 320, 64
RANDOM = np.random.default_rng(0)
IDS = RANDOM.integers(0, 10, size=(ROWS, 2)).astype("int32")
LABELS = (IDS.sum(axis=1, keepdims=True) % 2 == 0).astype("float32")


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return ROWS // SIZE

    def __getitem__(self, n):
        rows = slice(SIZE * n, SIZE * n + SIZE)
        return IDS[rows], LABELS[rows]


class Fields(keras.Model):
    """A model of inputs that are a dict or a list."""

    def __init__(self, names):
        super().__init__()
        self.names = names
        self.table = keras_pep.PEPEmbedding(10, 8, name="table")
        self.top = keras.layers.Dense(1)

    def call(self, inputs):
        first, second = (inputs[name] for name in self.names)
        return self.top(self.table(first) * self.table(second))


def compiled(model):
    model.compile(
        keras_pep.optimizers.AdamL2(0.02),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return model


def fm():
    keras.utils.set_random_seed(0)
    return compiled(keras_pep.models.FM((10, 10), 8))


def search(model, train, **arguments):
    (ticket,) = keras_pep.search(
        model, train, budgets=[60], epochs=3, **arguments
    )
    return ticket


def assert_same(one, other):
    """Two tickets have learned the same, to the last bit."""
    assert one.step == other.step
    for name, table in one.learned_tables().items():
        np.testing.assert_array_equal(
            table.to_dense(), other.learned_tables()[name].to_dense()
        )


def loader():
    torch = pytest.importorskip("torch")
    pairs = torch.utils.data.TensorDataset(
        torch.tensor(IDS), torch.tensor(LABELS)
    )
    return torch.utils.data.DataLoader(pairs, SIZE)


def from_generator():
    """Rows that can be read once for each epoch, as by a queue."""
    epochs = iter(range(3))

    def rows():
        next(epochs)
        yield from ((x[0], x[1]) for x in zip(IDS, LABELS, strict=True))

    signature = (tf.TensorSpec((2,), tf.int32), tf.TensorSpec((1,), tf.float32))
    dataset = tf.data.Dataset.from_generator(rows, output_signature=signature)
    return dataset.batch(SIZE).apply(
        tf.data.experimental.assert_cardinality(ROWS // SIZE)
    )


def tf_data():
    return tf.data.Dataset.from_tensor_slices((IDS, LABELS)).batch(SIZE)


@functools.cache
def expected_of_batches():
    return search(fm(), Batches())


@functools.cache
def expected_of_arrays():
    return search(fm(), (IDS, LABELS), batch_size=SIZE)


@pytest.mark.requires_tensorflow
@pytest.mark.parametrize("data", [tf_data, from_generator, Batches, loader])
def test_batches_of_any_kind_train_alike_and_build_a_model(data):
    assert_same(search(fm(), data()), expected_of_batches())


def test_arrays_of_another_library_train_alike():
    x, y = tf.constant(IDS), tf.constant(LABELS)
    ticket = search(fm(), (x, y), batch_size=SIZE)
    assert_same(ticket, expected_of_arrays())


def test_arrays_train_as_fit_does_with_them():
    """Shuffled by Keras, whose order follows its seed."""
    x, y, ticket, model = IDS, LABELS, expected_of_arrays(), fm()
    assert ticket.step == 3 * ROWS // SIZE
    assert_same(search(fm(), x, y=y, batch_size=SIZE), ticket)

    keras.utils.set_random_seed(1)
    small = keras_pep.retrain(model, ticket, (x, y), epochs=2, batch_size=SIZE)
    expected = compiled(pruned_model(model, ticket))
    keras.utils.set_random_seed(1)
    expected.fit(x, y, epochs=2, batch_size=SIZE, verbose=0)
    for weight, other in zip(small.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(weight.numpy(), other.numpy())


def test_weights_of_samples_are_part_of_a_tuple():
    """Rows of no weight could have any label."""
    weights = (np.arange(ROWS) % 2).astype("float32")
    others = np.where(weights[:, None] > 0, LABELS, 1 - LABELS)
    tickets = [
        search(fm(), (IDS, labels, weights), batch_size=SIZE)
        for labels in (LABELS, others)
    ]
    assert_same(*tickets)
    keywords = {"y": LABELS, "sample_weight": weights}
    assert_same(search(fm(), IDS, batch_size=SIZE, **keywords), tickets[0])


@pytest.mark.parametrize("kind", [dict, list])
def test_inputs_may_have_names_or_be_several(kind):
    columns = [IDS[:, 0], IDS[:, 1]]
    names = ("user", "item") if kind is dict else (0, 1)
    named = dict(zip(names, columns, strict=True))
    x = named if kind is dict else columns
    found = []
    for built in (True, False):
        keras.utils.set_random_seed(0)
        model = compiled(Fields(names))
        if built:
            model(keras.tree.map_structure(lambda a: a[:1], x))
        keras.utils.set_random_seed(1)
        (ticket,) = keras_pep.search(model, (x, LABELS), budgets=[20], epochs=2)
        found.append(ticket)
    assert found[0].step == 2 * ROWS // 32  # batches as Keras makes them
    assert_same(*found)


def test_validation_may_be_a_tuple():
    model, figures = fm(), []
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda _, logs: figures.append(logs["val_loss"])
    )
    search(model, Batches(), validation=(IDS, LABELS), callbacks=[note])
    expected = model.evaluate(IDS, LABELS, verbose=0)
    assert figures[-1] == pytest.approx(expected, rel=1e-6)


def test_a_generator_does_not_build_a_model():
    def endless():
        while True:
            yield from (Batches()[n] for n in range(ROWS // SIZE))

    generator = endless()
    with pytest.raises(ValueError, match=r"call the model.*generator"):
        search(compiled(Fields([0, 1])), generator)
    np.testing.assert_array_equal(next(generator)[0], IDS[:SIZE])  # the first
    ticket = search(fm(), endless(), steps_per_epoch=ROWS // SIZE)
    assert_same(ticket, expected_of_batches())


@pytest.mark.parametrize(
    ("train", "arguments", "message"),
    [
        (IDS, {}, r"`train` has no labels: pass a tuple \(x, y\)"),
        ([IDS, IDS], {}, "`train` has no labels"),
        (tf_data(), {"validation": IDS}, "`validation` has no labels"),
        ((IDS,), {}, r"is \(x, y\).*1 items"),
        ((IDS, LABELS, LABELS, LABELS), {}, r"is \(x, y\).*4 items"),
        ((IDS, LABELS, LABELS), {"sample_weight": LABELS}, "sample_weight"),
    ],
)
@pytest.mark.parametrize("step", ["search", "retrain"])
def test_data_that_cannot_be_trained_on_are_refused(
    step, train, arguments, message
):
    model = fm()
    if step == "search":
        with pytest.raises(ValueError, match=message):
            search(model, train, **arguments)
    else:
        ticket = keras_pep.Ticket.from_model(model, (), 0, 0)
        with pytest.raises(ValueError, match=message):
            keras_pep.retrain(
                model, ticket, train, start="finetune", **arguments
            )


def test_rows_of_a_split_in_files_are_refused():
    """They would be read into memory as a whole."""
    split = types.SimpleNamespace(
        ids=object(), labels=np.zeros(4), in_memory=False
    )
    model = keras_pep.models.FM((4, 4), 2)
    model.compile(loss="mse")
    with pytest.raises(ValueError, match="rows of this `Split` are in files"):
        keras_pep.search(model, split, budgets=[4])
