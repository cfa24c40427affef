"""A run that goes on from another: its model and ids, on later data."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_pep._keras_compat import layers_within
from keras_pep.data import Earlier
from keras_pep.data.fields import Vocabulary
from keras_pep.lab.baselines import MixedDimensionEmbedding
from keras_pep.lab.presets import preset
from keras_pep.lab.run.automatic import take_best
from keras_pep.lab.run.directory import RunDirectory
from keras_pep.lab.run.models import chosen_model
from keras_pep.lab.run.results import (
    exported_bytes,
    figures,
    no_single_search,
    results,
)
from keras_pep.lab.run.size import Size, clip
from keras_pep.lab.run.tuning import Training, Tuning, compile_again
from keras_pep.layers import RowEmbedding, variables
from keras_pep.layers.prefixes import fits_prefixes
from keras_pep.metrics import evaluate
from keras_pep.pruning import convert, cut, grown, pruned_model
from keras_pep.pruning.continuing import keep_only, score_of, table_of
from keras_pep.pruning.ticket import Ticket, pep_layers
from keras_pep.serving import served_model
from keras_pep.sparse import SparseTable

if TYPE_CHECKING:
    from keras_pep.lab.run.config import Config
    from keras_pep.lab.run.runner import Run

_WARM = "try-warm-up"  # a file that leaves with the other candidates


def earlier_of(config: "Config") -> Earlier:
    """Read the vocabularies of the run that a run goes on from.

    Raises:
        RunError: If it has none, or they are damaged.
        DataError: If they have no place for new values.
    """
    directory = RunDirectory(str(config.continued))
    vocabularies = directory.read_vocabularies()
    path, seen = directory.read_seen(), {}
    if not path:
        counts, start = directory.read_counts(), 0
        for name, vocabulary in vocabularies.items():
            end = start + len(vocabulary)
            part = [] if counts is None else counts[start:end].tolist()
            seen[name] = {
                value: float(count)
                for value, count in zip(vocabulary, part, strict=False)
                if value is not None
            }
            start = end
    return Earlier(vocabularies, path or seen, config.decay, config.evict_below)


def continue_run(run: "Run") -> dict[str, Any]:
    """Train the model of the earlier run on the rows of this one.

    Its size stays what was asked for, and new features compete with the others
    for it. Where today's rows have the earlier ones too, the full table goes
    on, and is cut again; otherwise the small one.

    Returns:
        Of `metrics.json`, what this finds.

    Raises:
        RunError: If the earlier run has no model of a budget.
    """
    before = _Before(run)
    columns = before.model.embedding.output_dim
    run.config = replace(run.config, embedding_dim=columns)
    run.parameters = run.config.parameters(run.dataset)
    continued = run.do("before", partial(before.described, run))
    if before.whole:
        training = before.training(run, preset("continued_dense_epochs"))
        tuning = Tuning(run, columns, begin=partial(_begin, run, before))
        tuning.auc(training)
        sizes = [] if before.name == "dense" else [before.size]
        epochs = preset("continued_small_epochs")
        found = take_best(run, tuning, sizes, epochs, ("one-shot",))
    else:
        run.do("warm-up", partial(_warm_up, run, before))
        name = f"budget-{before.size.name}"
        entry = run.do(name, partial(_cut, run, before))
        found = {
            "dense": None,
            "budgets_not_reached": [],
            "budgets": [entry],
            "budgets_failed": {},
        }
    return {
        **found,
        "search": no_single_search(run, "continued"),
        "continued": continued,
    }


class _Before:
    """The model that a run goes on from, and what has become of its ids.

    Attributes:
        name: Of the small model, which was chosen.
        small: That model.
        model: What goes on: the full table, if there is one, where `whole`, or
            where the small one has mixed dimensions.
        whole: Whether today's rows have the earlier ones too.
    """

    def __init__(self, run: "Run") -> None:
        directory = RunDirectory(str(run.config.continued))
        self.metrics = directory.read_json("metrics.json")
        self.name, self.entry = chosen_model(directory, self.metrics)
        self.small = self.model = directory.load_model(self.name)
        self.whole = not run.config.decay
        mixed = isinstance(self.model.embedding, MixedDimensionEmbedding)
        if (self.whole or mixed) and self.metrics["dense"]:
            self.model = directory.load_model("dense")
        self.vocabularies = directory.read_vocabularies()
        self.rows = self.rows_of(run.dataset.vocabularies)
        asked = self.entry.get("max_bytes")
        entries = self.entry.get("target")
        if self.name == "dense":  # nothing was asked for
            columns = self.model.embedding.output_dim
            entries = run.dataset.feature_count * columns
        size = Size(entries=None if asked else entries, bytes=asked)
        self.size = size.of(run.dataset)

    def rows_of(
        self, vocabularies: Mapping[str, Vocabulary]
    ) -> list[np.ndarray]:
        """Find the earlier id of each value of each field; below 0 of none."""
        return [
            vocabulary.ids_in(self.vocabularies[name])
            for name, vocabulary in vocabularies.items()
        ]

    def training(self, run: "Run", epochs: int) -> Training:
        """How its model was trained; the rate to begin with, the length not."""
        columns = self.model.embedding.output_dim
        continued, tuned = (
            self.metrics.get(name) for name in ("continued", "tuning")
        )
        if tuned:
            best = max(tuned, key=lambda each: each["auc"])
            whole = Training(best["columns"], best["l2"], best["rate"], 0)
            kept = 1.0
            if self.model is self.small:
                kept -= self.entry.get("sparsity", 0.0)
            kept = min(1.0, kept * best["columns"] / columns)
            rate, l2 = whole.rate, whole.narrowed(columns, kept).l2
        elif continued:
            rate, l2 = continued["rate"], continued["l2"]
        else:
            rate = self.metrics["schedule"]["retrain_rate"]
            l2 = preset("l2") if run.config.l2 is None else run.config.l2
        # In proportion to how often a feature is seen.
        l2 *= self.metrics["feature_count"] / run.dataset.feature_count
        return Training(columns, l2, rate, epochs)

    def figures(self, run: "Run", *, gone: bool) -> dict[str, Any]:
        """AUC and log-loss on today's rows, where new values are unknown.

        Args:
            run: The run.
            gone: Whether its model knows values that have no id any more.
        """
        dataset, all_rows = run.dataset, self.rows
        if gone:
            config = replace(run.config, **run.moved, evict_below=0.0)
            with run.workers.chief_first():
                dataset = config.load_data()
            all_rows = self.rows_of(dataset.vocabularies)
        columns = [
            each
            for each, length in zip(
                all_rows, dataset.field_lengths, strict=True
            )
            for _ in range(length)
        ]
        found = {}
        for name in ("validation", "test"):
            split = dataset.splits[name]
            ids = split.ids[:].copy()
            for column, known in zip(ids.T, columns, strict=True):
                there = column >= 0
                column[there] = np.maximum(known[column[there]], 0)
            found[name] = evaluate(
                self.small, ids, split.labels, weights=split.weights
            )
        return found

    def described(self, run: "Run") -> dict[str, Any]:
        """Describe how its model is trained on, and how good it is today."""
        training = self.training(run, 0)
        fields = self.changes(run.dataset.vocabularies)
        gone = any(counts["gone"] for counts in fields.values())
        return {
            "from": str(run.config.continued),
            "rate": training.rate,
            "l2": training.l2,
            "fields": fields,
            "before": self.figures(run, gone=gone),
            "exported_bytes_before": self.entry["exported_bytes"],
        }

    def changes(
        self, vocabularies: Mapping[str, Vocabulary]
    ) -> dict[str, dict[str, int]]:
        """Count for each field the ids that stay, are new, and are gone."""
        return {
            name: {
                "known": int((rows >= 0).sum()),
                "added": int((rows == -1).sum()),
                "gone": int(
                    (self.vocabularies[name].ids_in(vocabulary) == -1).sum()
                ),
            }
            for (name, vocabulary), rows in zip(
                vocabularies.items(), self.rows, strict=True
            )
        }


def _begin(run: "Run", before: _Before, training: Training) -> keras.Model:
    """Let a full table begin where the earlier one ended, but nearer to zero.

    What has been trained to its end otherwise generalizes worse than what
    begins on the same rows from nothing.

    Reference:
        - [Ash & Adams, 2020](https://arxiv.org/abs/1910.08475)
    """
    keras.utils.set_random_seed(run.config.seed)
    model = grown(before.model, before.rows)
    for layer in layers_within(model):
        if (table := table_of(layer)) is not None:
            values = preset("continued_share") * variables.values_of(table)
            variables.assign(table, values)
    compile_again(run, model, training)
    return model


def _warm_up(run: "Run", before: _Before) -> dict[str, Any]:
    """Train the larger model, in which new features have whole rows."""
    keras.utils.set_random_seed(run.config.seed)
    model = before.model
    if isinstance(model.embedding, RowEmbedding):
        model = convert(model)
    model = grown(model, before.rows)
    _fit(run, "warm-up", model, before.training(run, preset("warm_up_epochs")))
    run.directory.save_model(_WARM, model)
    return {}


def _cut(run: "Run", before: _Before) -> dict[str, Any]:
    """Cut the model to its size, and train what is left."""
    keras.utils.set_random_seed(run.config.seed)
    model, size = run.directory.load_model(_WARM), before.size
    _cut_to(size, model)
    training = before.training(run, preset("continued_epochs"))
    _fit(run, f"budget-{size.name}", model, training)
    if not _fits(run, size, pruned_model(model)):
        clip(pep_layers(model)[0])
    if not _fits(run, size, pruned_model(model)):
        _cut_to(replace(size, row_bytes=2), model)
    while not _fits(run, size, small := pruned_model(model)):
        kept = sum(layer.nonzero_parameters() for layer in pep_layers(model))
        cut(model, int(0.98 * kept))
    ticket = Ticket.from_model(model, (), 0, 0)
    kept = ticket.embedding_parameters
    target = size.entries or kept
    run.directory.save_ticket(replace(ticket, budget=target))
    return {
        "target": target,
        "max_bytes": size.bytes,
        "method": "continued",
        "sparsity": round(ticket.sparsity, 6),
        "search_step": 0,
        **results(run, f"budget-{target}", small, kept),
        "int8": figures(run, served_model(small, "int8")),
    }


def _fits(run: "Run", size: Size, model: keras.Model) -> bool:
    found = exported_bytes(model, run.dataset.vocabularies)["int8"]["table"]
    return size.bytes is None or found <= size.bytes


def _cut_to(size: Size, model: keras.Model) -> None:
    """Keep the largest entries of a table, as many as a size holds."""
    layers = pep_layers(model)
    if size.entries is not None:
        cut(model, size.entries)
        return
    table = layers[0].sparse()
    prefixes = fits_prefixes(table, None)
    score = score_of(table, prefixes=prefixes)
    mask = size.largest(score, prefixes=prefixes)
    keep_only(model, layers[0], SparseTable.from_dense(table.to_dense(), mask))


def _fit(run: "Run", name: str, model: keras.Model, training: Training) -> None:
    """Train a model to its best epoch, at a rate that falls to zero.

    Without L2, which would shrink the features that today's rows do not have.
    """
    training = replace(training, l2=0.0)
    compile_again(run, model, training)
    kept = sum(layer.nonzero_parameters() for layer in pep_layers(model))
    epochs = training.epochs
    run.fit(name, model, epochs, kept=kept, patience=epochs)
