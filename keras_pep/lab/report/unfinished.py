"""Results of an unfinished run so far."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_pep.data.fields import Vocabulary
from keras_pep.lab.report.names import printable
from keras_pep.lab.run import Config, RunDirectory


@dataclass(frozen=True)
class Unfinished:
    """How far a run is.

    Attributes:
        state: What is done and what is going on, in a few sentences.
        hint: What the command is for.
        command: That goes on with the run.
    """

    state: str
    hint: str
    command: str


def results_so_far(
    directory: RunDirectory,
    config: Config,
    vocabularies: Mapping[str, Vocabulary] | None,
) -> dict[str, Any]:
    """Collect what `metrics.json` would have of the finished stages.

    What is not known is None or empty. Besides there are `tickets`, the budgets
    that the search has reached, and the names of all finished `stages`.

    Args:
        directory: Of the run, which may be going on.
        config: Its settings.
        vocabularies: Of its fields, if they are known.

    Raises:
        RunError: If a file is damaged.
        TypeError, AttributeError: If what is in it is not what it should be.
    """
    results = {n: s.result for n, s in directory.read_stages().items()}
    search = results.get("search", {})
    trained = {
        stage: entry for stage, entry in results.items() if "target" in entry
    }
    return {
        "dataset": Path(config.dataset).name.split(".")[0],
        "features": config.features or "",
        "model": config.model,
        "embedding_dim": config.embedding_dim,
        "seed": config.seed,
        "rows": {},
        "fields": vocabularies and len(vocabularies),
        "feature_count": vocabularies and sum(map(len, vocabularies.values())),
        "dense": results.get("dense"),
        "search": {
            "method": config.search,
            "granularity": config.shared_by(),
            "steps": search.get("steps"),
        },
        "budgets": [
            entry for stage, entry in trained.items() if _is_budget(stage)
        ],
        "baselines": [
            {**entry, "method": stage.rpartition("-")[0]}
            for stage, entry in trained.items()
            if not _is_budget(stage)
        ],
        "tickets": search.get("budgets", []),
        "stages": [*results],
    }


def _is_budget(stage: str) -> bool:
    return stage.startswith("budget-")


def how_far(
    directory: RunDirectory, finished: Sequence[str], last: tuple[str, int]
) -> Unfinished:
    """Says where a run is.

    Args:
        directory: Of the run.
        finished: Names of its finished stages.
        last: The stage that was trained last, and its epochs so far.
    """
    stage, epochs = last
    done = ", ".join(map(printable, finished))
    at_work = directory.in_use()
    sentences = [
        f"Finished stages: {done}." if done else "No stage is finished."
    ]
    if stage and stage not in finished:
        plural = "s" * (epochs > 1)
        sentences.append(f"{stage} has {epochs:,} epoch{plural} so far.")
    if at_work is not None:
        process = "A process" if at_work else "No process"
        sentences.append(f"{process} is training it.")
    return Unfinished(
        state=" ".join(sentences),
        hint="Continue with"
        if at_work is False
        else "If it is interrupted, continue with",
        command=printable(
            f"keras-pep train --resume {shlex.quote(str(directory.path))}"
        ),
    )
