"""The small models of a default run: a few candidates for each size.

Uniform tables, cuts of the dense one, and searches, in the order of
`presets`, each trained as the dense model is. The best on validation is taken;
of those that are as good, the simplest.
"""

import math
from collections.abc import (
    Callable,
    Collection,
    Iterator,
    Mapping,
)
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_pep.lab.baselines.mixed_dimension import parameters_of_mixed
from keras_pep.lab.presets import preset
from keras_pep.lab.run.artifacts import TICKET
from keras_pep.lab.run.results import (
    exported_bytes,
    figures,
    planted_figures,
    results,
)
from keras_pep.lab.run.runner import Run
from keras_pep.lab.run.searches import SEARCHED, TABLE, Searches, ticket_of
from keras_pep.lab.run.size import Size, clip
from keras_pep.lab.run.tuning import (
    DroppedIfBehind,
    Training,
    Tuning,
    build,
    tell,
)
from keras_pep.layers import PEPEmbedding, variables
from keras_pep.metrics import auc, auc_difference_error, auc_error, predict
from keras_pep.pruning import Ticket, pruned_model
from keras_pep.pruning.continuing import norms_of
from keras_pep.pruning.ticket import other_weights, pep_layers
from keras_pep.serving import served_model

# From the simplest to the least simple.
METHODS = (
    *("uniform", "warm-uniform", "mixed-dimension", "one-shot"),
    *("wide-one-shot", "prefix-search", "warm-search"),
    *("gradual-magnitude", "search"),
)
_QUANTIZED = "int8"


@dataclass
class Candidates:
    """The candidates of one size, each a stage of the run.

    Attributes:
        run: The run.
        tuning: How full tables were trained.
        dense: How a full table is trained on what the run learns now.
        size: What they may have.
        searches: Those that serve several sizes.
        taken: Targets that have a model already.
        methods: What is tried; by default what suits the effort.
        found: Figures of each, by its method.
    """

    run: Run
    tuning: Tuning
    dense: Training
    size: Size
    searches: Searches
    taken: Collection[int] = ()
    methods: Collection[str] | None = None
    found: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rows = self.run.dataset.feature_count
        self.dense_auc = self.tuning.auc(self.tuning.winner)
        self.uniform = self.size.columns(self.rows)  # columns of such a table

    @property
    def overfits(self) -> bool:
        """Whether the dense table is trained for half as long, or less."""
        longest = max(training.epochs for training in self.tuning.tried)
        return 2 * self.dense.epochs <= longest

    def best(self) -> dict[str, Any] | None:
        """Train them all, and take the best: figures of `budget-<N>.keras`.

        Returns:
            None if none can be made, or none fits.
        """
        run, trainings = self.run, {}
        for method, train in self._trainings():
            trainings[method] = train
            self._try(method, f"try-{method}", train)
        while self.found and self.overfits:
            best = max(self.found, key=lambda method: self.found[method]["auc"])
            if not self._grows_to_its_end(best):
                break
            # What is small overfits later, or never.
            self.dense = replace(self.dense, epochs=2 * self.dense.epochs)
            longer = f"try-{best}-{self.dense.epochs}"
            self._try(best, longer, trainings[best])
        stage, result = f"budget-{self.size.name}", None
        if self.found:
            result = run.attempt(stage, partial(run.do, stage, self._take))
        if stage not in run.failures:
            run.directory.remove_tried(self.size.name)
        return result or None

    def _try(self, method: str, name: str, train: Callable[[str], Any]) -> None:
        """Train a candidate, and keep its figures if it is the best so far."""
        name = f"{name}-{self.size.name}"
        part = partial(self.run.do, name, partial(train, name))
        result = self.run.attempt(name, part)
        before = self.found.get(method, {"auc": 0.0})
        if result is not None and result["auc"] > before["auc"]:
            self.found[method] = result

    def _grows_to_its_end(self, method: str) -> bool:
        """Whether a candidate was at its best after its last epoch."""
        model, stage = (self.found[method][key] for key in ("model", "stage"))
        aucs = [row["val_auc"] for row in self.run.stages[stage].history]
        grows = len(aucs) == self.dense.epochs and max(aucs) == aucs[-1]
        return grows and not model.startswith("width-")

    def _trainings(self) -> Iterator[tuple[str, Callable[[str], Any]]]:
        """The candidates, one after another, as long as they may be needed."""
        effort = self.run.config.effort
        tried = self.methods or preset("candidates")[effort]
        if self.uniform >= self.dense.columns:
            tried = ["uniform"]  # the dense table itself is no larger
        for method in tried:
            last = method == preset("candidates")[effort][-1]
            if last and effort != "thorough" and self._as_good_as_dense():
                return  # little can be gained
            train = self._training(method)
            if train is not None:
                yield method, train

    def _training(self, method: str) -> Callable[[str], Any] | None:
        """How a candidate is trained; None if there is no use for it."""
        if method == "uniform" and self._tuned():
            return self._uniform_of_tuning
        thorough = self.run.config.effort == "thorough"
        if method == "uniform" and thorough and self.uniform:
            return self._uniform
        if method == "warm-uniform" and self.uniform:
            return partial(self._uniform, warm=True)
        if method == "mixed-dimension" and self.size.dims(self.dense.columns):
            return self._mixed_dimension
        columns = self.searches.columns(method, self.size)
        narrow = self.searches.columns("one-shot", self.size)
        if method == "one-shot" or (
            method == "wide-one-shot" and columns != narrow
        ):
            fits = self._room(columns)
            return partial(self._one_shot, columns) if fits else None
        if method in SEARCHED and not self._is_needless(method):
            ticket = self.searches.find(method, self.size)
            return partial(self._of_search, ticket) if ticket else None
        return None

    def _is_needless(self, method: str) -> bool:
        """Whether a search cannot be expected to help."""
        if self.run.config.effort == "thorough":
            return False
        if method == "gradual-magnitude":
            return not self.overfits
        return method == "warm-search" and not self.searches.scattered(
            self.size
        )

    def _tuned(self) -> list[int]:
        """Columns of full tables that fit."""
        return [each for each in self.tuning.best if each <= self.uniform]

    def _room(self, columns: int) -> bool:
        """Whether a single entry of so many columns fits."""
        if self.size.row_bytes:
            return self.size.searched(self.rows, columns) > 0
        return self.size.holds_prefixes(np.eye(1, self.rows)[0] > 0, columns)

    def _as_good_as_dense(self) -> bool:
        """Whether a candidate is within noise of the dense model."""
        best = max((r["auc"] for r in self.found.values()), default=0.0)
        return self._is_noise(self.dense_auc - best)

    def _is_noise(self, difference: float) -> bool:
        """Whether one AUC is no more ahead than chance has it."""
        rows = self.run.dataset.validation
        error = auc_error(rows.labels, self.dense_auc, rows.weights)
        return bool(difference <= preset("as_good") * error)

    def _uniform_of_tuning(self, _: str) -> dict[str, Any]:
        """Take the best table of tuning that fits."""
        columns = max(
            self._tuned(),
            key=lambda each: self.tuning.auc(self.tuning.best[each]),
        )
        training = self.tuning.best[columns]
        return {
            "model": f"width-{columns}",
            "stage": self.tuning.tried[training]["stage"],
            "auc": self.tuning.auc(training),
            "kept": self.rows * columns,
            "epochs": training.epochs,
        }

    def _uniform(self, name: str, *, warm: bool = False) -> dict[str, Any]:
        """Train a narrow table, or one from the dense one's main columns."""
        training = self.dense.narrowed(self.uniform)
        model = build(self.run, training, "dense")
        if warm:
            table = self.searches.main_columns(self.uniform)
            start = preset("warm_share") * table
            variables.assign(model.embedding.embeddings, start)
        ticket = self._whole_ticket(model)
        return self._train(name, model, ticket, training)

    def _mixed_dimension(self, name: str) -> dict[str, Any]:
        """Train a table for each field, as wide as the field is popular."""
        dim, sizes = self.dense.columns, self.run.dataset.field_sizes
        dims = self.size.dims(dim)
        assert dims is not None
        share = min(1.0, self.size.per_row(self.rows) / dim)
        training = self.dense.narrowed(dim, share)
        budget = parameters_of_mixed(sizes, dims, dim)
        model = build(self.run, training, "mixed-dimension", budget)
        tables = [
            variables.values_of(layer.embeddings)
            for layer in model.embedding.tables
        ]
        wide = [
            np.pad(table, [(0, 0), (0, max(dims) - table.shape[1])])
            for table in tables
        ]
        mask = np.arange(max(dims)) < np.repeat(dims, sizes)[:, None]
        ticket = ticket_of(model, np.concatenate(wide), mask)
        return self._train(name, model, ticket, training, budget)

    def _one_shot(self, columns: int, name: str) -> dict[str, Any]:
        """Cut the rows of the dense table where little is left of them."""
        table = self.searches.main_columns(columns)
        mask = self.size.largest(norms_of(table))
        training = self.dense.narrowed(columns, float(mask.mean()))
        model = build(self.run, training, "pep")
        ticket = ticket_of(model, preset("warm_share") * table, mask)
        return self._retrain(name, model, ticket, training)

    def _of_search(self, ticket: Ticket, name: str) -> dict[str, Any]:
        """Retrain what a search has found."""
        rows, columns = ticket.tables[TABLE].shape
        share = ticket.embedding_parameters / (rows * columns)
        training = self.dense.narrowed(columns, share)
        # A new one, as a resumed run has it: of another, dropout goes on.
        model = build(self.run, training, "pep")
        return self._retrain(name, model, ticket, training)

    def _retrain(
        self, name: str, model: Any, ticket: Ticket, training: Training
    ) -> dict[str, Any]:
        run = self.run
        keras.utils.set_random_seed(run.config.seed)
        # A full table with zeros, which stay so, is trained faster than a
        # compact one.
        for layer in pep_layers(model):
            layer.assign_sparse(ticket.tables[layer.name])
        others = other_weights(model, ticket.tables)
        for weight, value in zip(others, ticket.weights, strict=True):
            variables.assign(weight, value)
        return self._train(name, model, ticket, training)

    def _train(
        self,
        name: str,
        model: Any,
        ticket: Ticket,
        training: Training,
        kept: int | None = None,
    ) -> dict[str, Any]:
        """Train a model, and save it beside the ticket that it began with."""
        run = self.run
        kept = ticket.embedding_parameters if kept is None else kept
        run.fit(
            *(name, model, training.epochs, self._dropping(training)),
            kept=kept,
            patience=training.patience,
        )
        if self.size.bytes is not None and not self.size.row_bytes:
            clip(model.embedding)
        if isinstance(model.embedding, PEPEmbedding):
            model = pruned_model(model)
        run.directory.save_model(name, model)
        run.directory.write(TICKET, f"{name}.ticket.npz", ticket)
        tell(name, training, run.stage.history, kept)
        return {
            "model": name,
            "stage": name,
            "auc": max(row["val_auc"] for row in run.stage.history),
            "kept": kept,
            "epochs": training.epochs,
        }

    def _dropping(self, training: Training) -> DroppedIfBehind:
        """Make what ends a training that is behind the best candidate."""
        run = self.run
        # The rate falls in another way in a training of another length.
        alike = [
            result
            for result in self.found.values()
            if result["epochs"] == training.epochs
        ]
        rivals = []
        if alike:
            best = max(alike, key=lambda result: result["auc"])
            history = run.stages[best["stage"]].history
            rivals.append([row["val_auc"] for row in history])
        rows = run.dataset.validation
        error = auc_error(rows.labels, self.dense_auc, rows.weights)
        return DroppedIfBehind(rivals, run.stage.history, error)

    def _whole_ticket(self, model: Any) -> Ticket:
        table = variables.values_of(model.embedding.embeddings)
        return ticket_of(model, table, np.ones(table.shape, bool))

    def _take(self) -> dict[str, Any]:
        """Take the best, or a simpler one that is as good."""
        run, rows = self.run, self.run.dataset.validation
        models, scores = {}, {}
        for method, result in self.found.items():
            model = run.directory.load_model(result["model"])
            sizes = exported_bytes(model, run.dataset.vocabularies)
            size = sizes[_QUANTIZED]["table"]
            if result["kept"] <= (self.size.entries or math.inf) and size <= (
                self.size.bytes or math.inf
            ):
                models[method] = model
                scores[method] = predict(model, rows.ids)
        if not models:
            return {}
        aucs = {
            method: auc(rows.labels, score, rows.weights)
            for method, score in scores.items()
        }
        best = max(aucs, key=lambda method: aucs[method])
        # With scales for its rows, less of what is ahead may fit.
        ahead = max(each["auc"] for each in self.found.values()) - aucs[best]
        if not self.size.row_bytes and not self._is_noise(ahead):
            return {}

        def as_good(method: str) -> bool:
            error = auc_difference_error(
                *(rows.labels, scores[method], scores[best]), rows.weights
            )
            return bool(aucs[method] >= aucs[best] - preset("tie") * error)

        method = next(m for m in METHODS if m in models and as_good(m))
        return self._taken(method, models[method], aucs)

    def _taken(
        self, method: str, model: Any, aucs: Mapping[str, float]
    ) -> dict[str, Any]:
        run, found = self.run, self.found[method]
        if found["model"].startswith("width-"):
            training = self.tuning.best[found["kept"] // self.rows]
            ticket = self._whole_ticket(build(run, training, "dense"))
        else:
            ticket = run.directory.read(TICKET, f"{found['model']}.ticket.npz")
        kept = found["kept"]
        target = kept if self.size.entries is None else self.size.entries
        if target in self.taken:
            return {"target": target}
        ticket = replace(ticket, budget=target)
        run.directory.save_ticket(ticket)
        history = run.stages[found["stage"]].history
        return {
            "target": target,
            "max_bytes": self.size.bytes,
            "method": method,
            "sparsity": round(1 - kept / run.parameters, 6),
            "search_step": ticket.step,
            "candidates": dict(aucs),
            **planted_figures(run, ticket),
            **results(run, f"budget-{target}", model, kept, history),
            "int8": figures(run, served_model(model, _QUANTIZED)),
        }
