import pytest
import tensorflow as tf

from keras_pep.lab.run import Config
from keras_pep.lab.settings import Schedule


@pytest.mark.parametrize(
    ("settings", "best_epoch", "expected"),
    [
        ({}, None, Schedule(20, 16, 0.003, 0.01)),
        ({}, 14, Schedule(20, 16, 0.003, 0.01)),
        ({}, 11, Schedule(17, 16, 0.003, 0.01)),
        ({}, 2, Schedule(3, 3, 0.002, 0.002)),
        ({}, 1, Schedule(2, 2, 0.001, 0.001)),
        ({"model": "fvfm"}, None, Schedule(20, 16, 0.003, 0.01)),
        ({"model": "dcn"}, None, Schedule(14, 14, 0.001, 0.003)),
        ({"model": "deepfm"}, 5, Schedule(8, 8, 0.001, 0.003)),
        ({"max_epochs": 4}, None, Schedule(20, 4, 0.003, 0.01)),
        (
            {"search_epochs": 7, "retrain_epochs": 8, "search_rate": 0.5},
            1,
            Schedule(7, 8, 0.5, 0.001),
        ),
        ({"search": "paper"}, 2, Schedule(40, 40, 0.001, 0.001)),
    ],
)
def test_the_dense_model_decides_how_long_and_how_fast_others_train(
    settings, best_epoch, expected
):
    found = Config(**settings).schedule(best_epoch)
    assert found.search_epochs == expected.search_epochs
    assert found.retrain_epochs == expected.retrain_epochs
    assert found.search_rate == pytest.approx(expected.search_rate)
    assert found.retrain_rate == pytest.approx(expected.retrain_rate)


def test_small_tables_are_retrained_with_half_of_the_l2():
    config = Config(l2=4e-5, search="budget")
    shares = [
        config.retraining_optimizer(0.01, 100, kept).l2
        for kept in (0.2, 0.1, 0.0999, 0.01)
    ]
    assert shares == pytest.approx([4e-5, 4e-5, 2e-5, 2e-5])
    paper = Config(l2=4e-5, search="paper")
    assert paper.retraining_optimizer(0.01, 100, 0.01).l2 == 4e-5


def test_another_optimizer_has_rates_of_its_own():
    schedule = Config(optimizer="rowwise_adagrad").schedule()
    assert (schedule.search_rate, schedule.retrain_rate) == (0.1, 0.1)


@pytest.mark.parametrize("optimizer", ["lazy_adam", "rowwise_adagrad"])
@pytest.mark.parametrize("kind", ["dense", "uniform", "mixed-dimension", "pep"])
def test_no_stage_reads_a_whole_table(clicks, kind, optimizer):
    """But the smallest, of a field with a handful of features."""
    config = Config(embedding_dim=8, optimizer=optimizer)
    model = config.build_model(clicks, kind, 3 * clicks.feature_count)
    ids, labels = clicks.train.ids[:4], clicks.train.labels[:4, None]
    step = tf.function(model.train_step)
    graph = step.get_concrete_function((tf.constant(ids), labels)).graph
    tables = {
        tuple(weight.shape)
        for weight in model.trainable_variables
        if weight.shape[0] > 20
    }
    assert tables
    definition = graph.as_graph_def(add_shapes=True)
    parts = definition.node, *(x.node_def for x in definition.library.function)
    read = {
        tuple(size.size for size in shape.dim)
        for nodes in parts
        for node in nodes
        if node.op == "ReadVariableOp"
        for shape in node.attr["_output_shapes"].list.shape
    }
    assert read
    assert not tables & read
