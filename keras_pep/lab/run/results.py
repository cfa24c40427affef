"""Figures of a trained model, and its bytes as it would be exported."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import pandas as pd

from keras_pep.data.fields import Vocabulary
from keras_pep.lab.baselines import CompressedEmbedding
from keras_pep.lab.baselines.stored import bytes_in, rounded
from keras_pep.lab.run.runner import Run
from keras_pep.layers import variables
from keras_pep.layers.linear import LinearMixin
from keras_pep.metrics import evaluate
from keras_pep.models import FieldModel
from keras_pep.pruning import Ticket
from keras_pep.serving import tables_of
from keras_pep.serving.compact import (
    Tables,
    layout_of,
    table_weights,
    with_unknown,
)
from keras_pep.serving.renumbering import renumbering, reordered
from keras_pep.serving.sizes import bytes_of
from keras_pep.sparse import SparseTable

_EVALUATED = ("validation", "test")


def results(
    run: Run,
    name: str,
    model: keras.Model,
    kept: int,
    history: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Save a trained model, evaluate it, and count what it takes.

    Args:
        run: The run.
        name: Of its file.
        model: The model.
        kept: Its embedding parameters.
        history: Rows of its epochs, by default those of the present stage.
    """
    epochs = run.stage.history if history is None else history
    best = max(range(len(epochs)), key=lambda n: epochs[n]["val_auc"])
    return {
        "embedding_parameters": kept,
        "total_parameters": sum(
            int(np.prod(v.shape)) for v in model.trainable_variables
        ),
        "bytes": run.directory.save_model(name, model),
        "exported_bytes": exported_bytes(model, run.dataset.vocabularies),
        "steps": epochs[-1]["step"],
        "seconds": seconds(epochs),
        "best_epoch": best + 1,
        "seconds_to_best": seconds(epochs[: best + 1]),
        **figures(run, model),
    }


def no_single_search(run: Run, method: str) -> dict[str, Any]:
    """Describe a search for `metrics.json` where there was not just one."""
    unknown = dict.fromkeys(("steps", "seconds", "embedding_parameters"))
    known = {"method": method, "granularity": run.config.shared_by()}
    return {**known, **unknown}


def figures(run: Run, model: keras.Model) -> dict[str, Any]:
    """AUC and log-loss of a model on the splits that it was not trained on."""
    splits = {name: run.dataset.splits[name] for name in _EVALUATED}
    return {
        name: evaluate(model, rows.ids, rows.labels, weights=rows.weights)
        for name, rows in splits.items()
    }


def exported_bytes(
    model: keras.Model, vocabularies: Mapping[str, Vocabulary]
) -> dict[str, dict[str, int]]:
    """Bytes of the tables and of everything, in float32 and in int8.

    Args:
        model: The model.
        vocabularies: Of its fields.

    Returns:
        By the type of values, `table`, with all that looks vectors up but
        without first-order weights, and `model`, with all weights.
    """
    tables = tables_of(model)
    counted = {id(weight) for weight in table_weights(tables)}
    embedding = getattr(model, "embedding", None)  # may have more than tables
    own = [w for w in getattr(embedding, "weights", ()) if id(w) not in counted]
    counted |= {id(weight) for weight in own}
    others = bytes_of(w for w in model.weights if id(w) not in counted)
    found = {}
    for quantize, bits in ((None, None), ("int8", 8)):
        of_own = (
            embedding.stored_bytes(bits)
            if isinstance(embedding, CompressedEmbedding)
            else bytes_of(own)
        )
        served = _served(model, tables, vocabularies, quantize)
        sizes = {
            name: layout_of(table, quantize).bytes
            for name, table in served.items()
        }
        found[quantize or "float32"] = {
            "table": of_own + sum(sizes[name] for name in _vectors(tables)),
            "model": of_own + others + sum(sizes.values()),
        }
    return found


def in_int4(run: Run, model: keras.Model) -> dict[str, Any]:
    """Figures of a model as if its tables were stored in 4 bits.

    With a scale of float16 for each row. Its tables are rounded for good.

    Args:
        run: The run.
        model: The model.
    """
    embedding: Any = getattr(model, "embedding", None)
    tables, vocabularies = tables_of(model), run.dataset.vocabularies
    if isinstance(embedding, CompressedEmbedding):
        size = embedding.stored_bytes(4)
        embedding.round_to(4)
    else:
        counted = {id(weight) for weight in table_weights(tables)}
        size = bytes_of(w for w in embedding.weights if id(w) not in counted)
        served = _served(model, tables, vocabularies, "float16")
        for name in _vectors(tables):
            layer, table = tables[name]
            kept = int(served[name].row_splits[-1])
            rows = int(np.count_nonzero(np.diff(served[name].row_splits)))
            # Values of 2 bytes give way to those of half a byte.
            size += layout_of(served[name], "float16").bytes - 2 * kept
            size += bytes_in(kept, rows, 4)
            blocks = [rounded(block, 4) for block in table.blocks()]
            if isinstance(layer, keras.layers.Embedding):
                variables.assign_blocks(layer.embeddings, blocks)
            else:
                layer.assign_sparse(table.with_values_of(blocks))
    return {"int4": {"table": size, **figures(run, model)}}


def _vectors(tables: Tables) -> list[str]:
    """Names of the tables without those of first-order weights."""
    return [
        name
        for name, (layer, _) in tables.items()
        if not isinstance(layer, LinearMixin)
    ]


def _served(
    model: keras.Model,
    tables: Tables,
    vocabularies: Mapping[str, Vocabulary],
    quantize: str | None,
) -> Mapping[str, SparseTable]:
    """The tables as they are exported: in order, with rows for unknowns."""
    parts = {name: table for name, (_, table) in tables.items()}
    served = reordered(parts, renumbering(model, parts, quantize))
    without_unknown = [not each.unknown for each in vocabularies.values()]
    if isinstance(model, FieldModel) and any(without_unknown):
        return with_unknown(model, served, without_unknown)
    return served


def planted_figures(run: Run, ticket: Ticket) -> dict[str, float]:
    """How well a ticket ranks features by the size they were made with."""
    planted = run.dataset.planted_sizes
    if planted is None:
        return {}
    ranks = pd.Series(planted).rank()
    learned = pd.Series(ticket.tables["embedding"].embedding_sizes())
    popularity = pd.Series(run.dataset.counts())
    return {
        "planted_rank_correlation": learned.rank().corr(ranks),
        "popularity_rank_correlation": popularity.rank().corr(ranks),
    }


def seconds(epochs: Sequence[Mapping[str, Any]]) -> float:
    """Add up the time of epochs, with their validation."""
    return round(float(sum(row["seconds"] for row in epochs)), 2)
