"""Every tuned number of the laboratory, and where it comes from."""

from collections.abc import Sequence
from typing import Any, NamedTuple

_LOG = "apps/reproduce/LOG.md"
_ML = "chosen on validation of MovieLens-1M"
_PAPER = "Liu et al., ICLR 2021, for MovieLens-1M"
_NOT_VARIED = "not varied"


class Preset(NamedTuple):
    """A number or choice, its name, and its source.

    What begins with the name of a model is of that model alone; `autoint+` is
    AutoInt with a perceptron beside the attention. An optimizer's goes first.
    """

    name: str
    value: Any
    source: str


PRESETS: Sequence[Preset] = (
    # Models.
    Preset("embedding_dim", 64, _PAPER),
    Preset("lr.embedding_dim", 1, "one weight per feature"),
    Preset("hidden_units", (100, 100), "the authors' code, for MovieLens-1M"),
    Preset("dropout", 0.2, _ML),
    Preset("num_cross_layers", 3, "as keras-rs for MLPerf's DLRM-DCNv2"),
    Preset("num_convolutions", 1, _NOT_VARIED),
    Preset("num_layers", 3, "the authors' code"),
    Preset("num_heads", 2, "the authors' code"),
    Preset("attention_units", 64, "the authors' code"),
    # Training.
    Preset("learning_rate", 1e-3, f"{_PAPER}; Adam, for the full table"),
    Preset("autoint.learning_rate", 3e-3, _ML),
    Preset("rowwise_adagrad.learning_rate", 0.1, f"{_ML}: FM; 0.3 is too fast"),
    Preset("batch_size", 1024, _PAPER),
    Preset("l2", 1e-5, "the authors' code"),
    Preset("max_epochs", 40, _NOT_VARIED),
    Preset("patience", 2, _NOT_VARIED),
    Preset(
        "steps_per_execution",
        {"auto": 8, "budget": 8, "paper": 1},
        "not varied; the paper's search looks at every step",
    ),
    # Data.
    Preset("min_count", 10, "the authors' code, for Criteo and Avazu"),
    Preset("max_bad_rows", 0.001, _NOT_VARIED),
    # The search.
    Preset("threshold_init", -15.0, _PAPER),
    Preset(
        "granularity",
        {
            "auto": "global",
            "budget": "global",
            "paper": "feature_dimension",
        },
        f"{_LOG}: one threshold is as good, and costs half; {_PAPER}",
    ),
    Preset(
        "sparsity",
        {"budget": (0.8, 0.9, 0.95), "paper": (0.8,)},
        "not varied; the paper's search may never reach smaller sizes",
    ),
    Preset("search_epochs", 14, _NOT_VARIED),
    Preset(
        "fm.search_epochs", 20, f"{_LOG}: within twice the dense model's time"
    ),
    Preset("fvfm.search_epochs", 20, f"{_ML}: as fm"),
    Preset("autoint.search_epochs", 12, _NOT_VARIED),
    Preset("paper.search_epochs", 40, "not varied; at most"),
    Preset("search_rate_factor", 1.0, _NOT_VARIED),
    Preset("fm.search_rate_factor", 3.0, f"{_LOG}: three times the rate"),
    Preset("fvfm.search_rate_factor", 3.0, f"{_ML}: as fm"),
    Preset("rowwise_adagrad.search_rate_factor", 1.0, f"{_ML}: 3 is too fast"),
    Preset(
        "epochs_over_dense",
        1.5,
        f"{_LOG}: epochs of search and retraining in those of the dense model",
    ),
    Preset("distillation", 0.5, f"{_LOG}: labels softened by half"),
    # Retraining.
    Preset("retrain_epochs", 14, _NOT_VARIED),
    Preset("fm.retrain_epochs", 16, f"{_LOG}: Retraining"),
    Preset("fvfm.retrain_epochs", 16, f"{_ML}: as fm"),
    Preset("autoint.retrain_epochs", 12, _NOT_VARIED),
    Preset("retrain_rate_factor", 3.0, _NOT_VARIED),
    Preset("fm.retrain_rate_factor", 10.0, f"{_LOG}: 0.01 as good as 0.02"),
    Preset("fvfm.retrain_rate_factor", 10.0, f"{_ML}: as fm"),
    Preset("autoint.retrain_rate_factor", 1.0, _NOT_VARIED),
    Preset("rowwise_adagrad.retrain_rate_factor", 1.0, f"{_ML}: 3 is too fast"),
    Preset(
        "retraining_l2",
        0.5,
        f"{_LOG}: share of the L2 at a rate that falls from a higher one",
    ),
    Preset(
        "large_share",
        0.1,
        f"{_LOG}: what keeps so much of the table needs all of the L2",
    ),
    # A run without settings.
    Preset("first_columns", 8, f"{_LOG}: the default run"),
    Preset("l2_share", 0.015, f"{_LOG}: the default run"),
    Preset("l2_factor", 3.0, _NOT_VARIED),
    Preset("l2_between", 0.15, f"{_LOG}: Gowalla; in powers of the factor"),
    Preset("l2_by_width", 0.6, f"{_LOG}: the default run"),
    Preset("l2_by_share", 0.25, f"{_LOG}: the default run"),
    Preset("soft_l2", 0.5, f"{_LOG}: what full tables teach; of the L2"),
    Preset("warm_share", 0.3, f"{_LOG}: the default run"),
    Preset(
        "source_columns",
        {
            "one-shot": 2,
            "wide-one-shot": 4,
            "prefix-search": 4,
        },
        f"{_LOG}: the default run; in those of a uniform table",
    ),
    Preset("searched_columns", 16, f"{_LOG}: what full tables teach; at least"),
    Preset("warm_search_rate", 0.5, f"{_LOG}: the default run"),
    Preset("warm_search_epochs", 1.0, f"{_LOG}: one prefix search"),
    Preset(
        "candidates",
        {
            "quick": ("uniform", "warm-uniform", "one-shot"),
            "normal": (
                *("prefix-search", "gradual-magnitude", "wide-one-shot"),
                *("one-shot", "mixed-dimension", "warm-uniform", "uniform"),
                "warm-search",
            ),
            "thorough": (
                *("prefix-search", "warm-search", "gradual-magnitude"),
                *("search", "wide-one-shot", "one-shot"),
                *("mixed-dimension", "warm-uniform", "uniform"),
            ),
        },
        f"{_LOG}: the default run; in this order: others are dropped beside "
        "the first",
    ),
    Preset(
        "effort_epochs",
        {"quick": 0.5, "normal": 1.0, "thorough": 1.0},
        "not varied; of those of retraining",
    ),
    Preset("parts_of_dense", (2, 4, 8), _NOT_VARIED),
    Preset("worth_saving", 0.1, "not varied; of the bytes of a model"),
    Preset(
        "as_good",
        0.3,
        "standard errors of an AUC; of the difference of two models that agree "
        "about a third",
    ),
    Preset(
        "worth_a_step", 0.1, "not varied; standard errors of an AUC, in tuning"
    ),
    Preset("tie", 0.5, "standard errors of the difference of two AUCs"),
    Preset("tolerance", 0.0005, "about the noise of a seed on MovieLens-1M"),
    Preset("lazy_rows", 4, f"{_LOG}: the default run"),
    # A run that goes on from another.
    Preset("continued_share", 0.3, f"{_LOG}: runs that go on"),
    Preset("continued_dense_epochs", 3, f"{_LOG}: runs that go on"),
    Preset("continued_small_epochs", 5, f"{_LOG}: runs that go on"),
    # The same, where today's rows do not have the earlier ones.
    Preset("warm_up_epochs", 2, "docs/continuing.md"),
    Preset("continued_epochs", 4, "docs/continuing.md"),
    Preset("decay", 0.9, _NOT_VARIED),
    Preset("evict_below", 0.5, "not varied; of rows"),
    # Baselines.
    Preset("mixed_dimension_temperature", 0.3, "Ginart et al., 2019"),
    # What is noted of a training.
    Preset(
        "noted_change",
        0.002,
        "a thousand rows of kept.csv while nine tenths are pruned",
    ),
    Preset("sampled_thresholds", 1_000_000, "not varied; for quantiles"),
)
_VALUES = {preset.name: preset.value for preset in PRESETS}


def preset(name: str, *of: str) -> Any:
    """Look a value up.

    Args:
        name: Its name.
        *of: The optimizer, the model, or the search, which may have one of
            their own; the first that has one decides.
    """
    own = [x for x in (f"{each}.{name}" for each in of) if x in _VALUES]
    return _VALUES[own[0] if own else name]
