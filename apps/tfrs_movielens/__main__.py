"""`python -m apps.tfrs_movielens ranking | retrieval`, see README.md there."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_SHOWN = 10


@click.group()
def main() -> None:
    """TensorFlow Recommenders' tutorials on MovieLens-1M, pruned."""


def _options(command: Any) -> Any:
    """Add the options of both commands."""
    for option in (
        click.option(
            "--data-dir",
            type=click.Path(path_type=Path, file_okay=False, exists=True),
            required=True,
            help="MovieLens-1M as it is downloaded.",
        ),
        click.option("--seed", default=0, show_default=True),
    ):
        command = option(command)
    return command


_EXPORT = click.option(
    "--export",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the exported model's versions.",
)


@main.command()
@_options
@_EXPORT
def ranking(data_dir: Path, seed: int, export: Path | None) -> None:
    """Train a dense ranking model and a pruned one; compare their AUC."""
    import keras_pep
    from apps.tfrs_movielens import ranking as task

    data = keras_pep.data.load("movielens", data_dir, seed=seed)
    click.echo("table        parameters  validation AUC  test AUC")
    for name, model in (
        (f"{task.DENSE.width} columns", task.dense(data, seed)),
        (f"{task.NARROW.width} columns", task.dense(data, seed, task.NARROW)),
        ("pruned", task.pruned(data, seed)),
    ):
        kept = _kept(model.scorer.embedding)
        found = [
            keras_pep.metrics.evaluate(model, rows.ids, rows.labels)["auc"]
            for rows in (data.validation, data.test)
        ]
        click.echo(
            f"{name:<11}  {kept:>10,}  {found[0]:>14.4f}  {found[1]:>8.4f}"
        )
    if export is not None:
        _export(model, export, data)


@main.command()
@_options
@_EXPORT
@click.option(
    "--sparsity",
    multiple=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=(0.5, 0.8, 0.9),
    show_default=True,
    help="Share of the tables to prune; repeatable.",
)
@click.option("--user", default="42", show_default=True, help="To show.")
def retrieval(
    data_dir: Path,
    seed: int,
    export: Path | None,
    sparsity: tuple[float, ...],
    user: str,
) -> None:
    """Train two towers, dense, pruned and narrow; compare their recall."""
    from apps.tfrs_movielens import ratings
    from apps.tfrs_movielens import retrieval as task

    data = ratings.load(data_dir, seed)
    if user not in data.users:
        raise click.BadParameter(
            f"there is no user {user!r}", param_hint="--user"
        )
    click.echo("tables            parameters  recall@100")
    shown = {}
    for name, model in _models(data, seed, sparsity):
        towers = (model.user_tower, model.item_tower)
        kept = sum(_kept(tower.layers[-1]) for tower in towers)
        found = task.recall(model, data, data.test)
        click.echo(f"{name:<16}  {kept:>10,}  {found:10.4f}")
        shown[name] = model
    for name in ("dense", f"{max(sparsity):.4g} pruned"):
        click.echo(f"\nUser {user}, {name}:")
        for title in task.best_titles(shown[name], data, user, _SHOWN):
            click.echo(f"  {title}")
    if export is not None:
        _export(shown[f"{max(sparsity):.4g} pruned"], export)


@main.command()
@_options
def twins(data_dir: Path, seed: int) -> None:
    """Train the same model by Keras 3 and by TFRS; compare them."""
    import keras_pep
    from apps.tfrs_movielens import twins as task

    data = keras_pep.data.load("movielens", data_dir, seed=seed)
    (ours, theirs), difference = task.compare(data, seed)
    click.echo(f"test AUC by Keras 3 {ours:.4f}, by TFRS {theirs:.4f}")
    click.echo(f"predictions with moved weights differ by {difference:.1e}")


def _models(
    data: Any, seed: int, sparsity: tuple[float, ...]
) -> Iterator[tuple[str, Any]]:
    """Trained models with their names."""
    from apps.tfrs_movielens import retrieval as task

    yield "dense", task.trained(data, seed)
    for share in sorted(sparsity):
        yield f"{share:.4g} pruned", task.pruned(data, share, seed)
        if width := round((1 - share) * task.DENSE.width):
            narrow = task.trained(data, seed, task.narrow(width))
            yield f"{width} columns", narrow


def _kept(layer: Any) -> int:
    """Embedding parameters that are not pruned."""
    if hasattr(layer, "nonzero_parameters"):
        return int(layer.nonzero_parameters())
    return int(layer.count_params())


def _export(model: Any, folder: Path, data: Any = None) -> None:
    import keras_pep
    from keras_pep.serving import next_version

    small = keras_pep.pruned_model(model)
    made = keras_pep.export_saved_model(
        small, folder / str(next_version(folder)), data
    )
    size = made.report["table_bytes"]
    click.echo(f"\n{made.path}: {size:,} bytes of tables")


if __name__ == "__main__":
    main()
