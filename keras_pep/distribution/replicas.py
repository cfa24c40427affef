"""Data parallel training by `tf.distribute`: replicas of a model, workers.

A model that is made in the scope of a `MirroredStrategy` or of a
`MultiWorkerMirroredStrategy` has its weights on several devices, or in several
processes. What Keras' `fit` does with it is not what we need: of several
workers it knows nothing ([issue
20585](https://github.com/keras-team/keras/issues/20585)), and the mean of the
losses of unequal shares of a batch is not that of the batch. So `prepare` gives
the model another training function.
"""

import contextlib
import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from keras_pep._keras_compat import layers_within
from keras_pep.layers import variables


class WorkersDisagreeError(RuntimeError):
    """Workers have come to different results from the same data."""


def strategy_of(model: keras.Model) -> Any:
    """Return the strategy in whose scope a model was made, or None."""
    natives = (variables.native(weight) for weight in model.weights)
    found = (getattr(each, "distribute_strategy", None) for each in natives)
    known = next((each for each in found if each is not None), None)
    # That of a model without weights, which is not built yet.
    return known or getattr(model, "_distribute_strategy", None)


def scope_of(model: keras.Model) -> contextlib.AbstractContextManager[Any]:
    """Return the scope of a model's strategy, to make other weights in."""
    return scope(strategy_of(model))


def scope(strategy: Any) -> contextlib.AbstractContextManager[Any]:
    """Return the scope of a strategy, or an empty one for None."""
    if strategy is None:
        return contextlib.nullcontext()
    own: contextlib.AbstractContextManager[Any] = strategy.scope()
    return own


def build_slots(model: keras.Model) -> None:
    """Make the slots of a model's optimizer, before its first step does.

    A step that makes them is traced twice, and they take twice their memory.

    Args:
        model: A compiled model that is built.
    """
    if not model.optimizer.built:
        with scope_of(model):
            model.optimizer.build(model.trainable_variables)


def prepare(model: keras.Model) -> None:
    """Let `fit` train a model on all replicas that its strategy has.

    After it every worker gives `fit` the same data, in batches of the global
    size; call it outside of the strategy's scope. Every replica trains on its
    share of the rows of a batch, and their gradients add up to that of the
    batch, sparse ones without being made dense; batch normalization is by the
    batch too. So a step does what it does in one process, but for what is
    drawn at random in it: all replicas drop out alike. A batch that cannot be
    divided equally is filled up with copies of its first row that have no
    weight: no loss and no weighted metric counts them, but batch normalization
    and other metrics do. `evaluate` is done by all workers together, `predict`
    by each for itself; what callbacks decide should be the same on all of them.

    `keras_pep.search` and `retrain` call it. Without a strategy it does no more
    than `build_slots`.

    Args:
        model: A compiled model.

    Raises:
        ValueError: If a loss is not the mean over a batch.
    """
    build_slots(model)
    strategy = strategy_of(model)
    if strategy is None or isinstance(model.train_function, _Steps):
        return
    for loss in keras.tree.flatten(model.loss):
        if isinstance(loss, keras.Loss) and loss.reduction not in _MEANS:
            raise ValueError(
                "The loss must be a mean over the batch, to which replicas add "
                f"up. Received: reduction={loss.reduction!r} of {loss.name!r}"
            )
    # Keras would distribute the data, and look at a batch beforehand, by means
    # that it does not have between workers.
    model._distribute_strategy = None
    model.train_function = _Steps(model, strategy, model.train_step)
    model.test_function = _Steps(model, strategy, model.test_step)


_MEANS = ("sum_over_batch_size", "mean")


class _Steps:
    """A function of several steps, called with an iterator of batches."""

    def __init__(
        self, model: keras.Model, strategy: Any, step: Callable[[Any], Any]
    ) -> None:
        import tensorflow as tf

        def replica(data: Any) -> Any:
            with _whole_batches(model):
                return step(_share(data, strategy))

        @tf.function(reduce_retracing=True)
        def on_all(data: Any) -> Any:
            return strategy.run(replica, args=(data,))

        @tf.function
        def mean(logs: Any) -> Any:
            return {
                name: strategy.reduce("MEAN", value, axis=None)
                for name, value in logs.items()
            }

        self.step = on_all
        self._mean: Callable[[Any], dict[str, Any]] = mean
        self._model = model
        self._strategy = strategy

    def __call__(self, iterator: Iterator[Any]) -> dict[str, Any]:
        """Take `steps_per_execution` steps, fewer at the end of the data."""
        import tensorflow as tf

        if isinstance(iterator, tf.distribute.DistributedIterator):
            raise ValueError(
                "Call `fit` outside of the strategy's scope, with data that "
                "are not distributed: every replica takes its share of a batch."
            )
        iterator = self._with_metrics(iterator)
        logs = None
        # Not a loop in the graph: in one, what is gathered from other replicas
        # would have to have the same number of rows in every step.
        for data in itertools.islice(iterator, self._model.steps_per_execution):
            logs = self.step(data)
        if logs is None:
            raise StopIteration
        return self._mean(logs)

    def _with_metrics(self, iterator: Iterator[Any]) -> Iterator[Any]:
        """Make the variables of metrics, which Keras would do in a replica."""
        metrics = self._model._compile_metrics
        if metrics is None or metrics.built:
            return iterator
        first = next(iterator)
        with self._strategy.scope():
            self._model._symbolic_build(
                data_batch=keras.tree.map_structure(
                    lambda value: keras.KerasTensor(
                        value.shape,
                        keras.backend.standardize_dtype(value.dtype),
                    ),
                    first,
                )
            )
        return itertools.chain([first], iterator)


@contextlib.contextmanager
def _whole_batches(model: keras.Model) -> Iterator[None]:
    """Has layers normalize by the batch, not by the share of a replica.

    By their share they would also keep averages that differ among replicas.
    """
    layers = [
        layer
        for layer in layers_within(model)
        if isinstance(layer, keras.layers.BatchNormalization)
        and not layer.synchronized
    ]
    for layer in layers:
        layer.synchronized = True
    try:
        yield
    finally:
        for layer in layers:
            layer.synchronized = False


def _share(data: Any, strategy: Any) -> Any:
    """Return this replica's rows of a batch, and their weights.

    All replicas get as many. Where a batch cannot be divided so, some get its
    first row once more, with a weight of 0; the weights of the others make up
    for it, so that the mean over replicas is the mean over the batch.
    """
    import tensorflow as tf

    inputs, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    replicas = strategy.num_replicas_in_sync
    rows = tf.shape(tf.nest.flatten(inputs)[0])[0]
    each = -(-rows // replicas)
    number = tf.distribute.get_replica_context().replica_id_in_sync_group
    places = number * each + tf.range(each)
    there = places < rows
    places = tf.where(there, places, 0)

    def taken(values: Any) -> Any:
        return tf.nest.map_structure(lambda x: tf.gather(x, places), values)

    share = tf.cast(replicas * each / rows, keras.config.floatx())
    weight = tf.where(there, share, 0)
    if weights is not None:
        own = taken(weights)
        extra = [1] * (len(own.shape) - 1)
        weight = tf.cast(own, weight.dtype) * tf.reshape(weight, [-1, *extra])
    return taken(inputs), taken(labels), weight


def is_chief(strategy: Any) -> bool:
    """Tell whether this process is the worker that writes files."""
    return strategy is None or bool(strategy.extended.should_checkpoint)


def worker_count(strategy: Any) -> int:
    """Count the processes of a strategy."""
    if strategy is None:
        return 1
    local = len(strategy.extended.worker_devices)
    return int(strategy.num_replicas_in_sync) // local


def share_of(strategy: Any, batch_size: int) -> tuple[int, int]:
    """Tell which rows of each batch the replicas of this process take.

    Args:
        strategy: That of the training, or None.
        batch_size: Of all replicas together.

    Returns:
        A number and a count, as `keras_pep.data.batches` has them; `(0, 1)`,
        all rows, where a batch cannot be divided equally.
    """
    workers = worker_count(strategy)
    if workers == 1 or batch_size % strategy.num_replicas_in_sync:
        return 0, 1
    resolver = strategy.cluster_resolver
    chiefs = resolver.cluster_spec().as_dict().get("chief", ())
    before = len(chiefs) if resolver.task_type == "worker" else 0
    return resolver.task_id + before, workers


def agree(strategy: Any, what: str, *results: Any) -> None:
    """Make sure that all workers have the same results; wait for them.

    Args:
        strategy: That of the training, or None.
        what: What they are, for the message.
        *results: Arrays, numbers or text.

    Raises:
        WorkersDisagreeError: If they differ.
    """
    if worker_count(strategy) == 1:
        return
    digest = hashlib.sha256()
    for result in results:
        array = np.asarray(result)
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    own = np.frombuffer(digest.digest()[:8], np.int64)
    if (np.asarray(_gatherer(strategy)(own)) != own).any():
        raise WorkersDisagreeError(
            f"Workers do not agree on {what}. They need the same data, the "
            "same versions of all packages and the same kind of device; on "
            "GPUs also tf.config.experimental.enable_op_determinism()."
        )


@functools.cache
def _gatherer(strategy: Any) -> Callable[[np.ndarray], Any]:
    """Collect what every replica has."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([1], tf.int64)])
    def of_all(own: Any) -> Any:
        return strategy.gather(strategy.run(lambda: own), axis=0)

    gathered: Callable[[np.ndarray], Any] = of_all
    return gathered
