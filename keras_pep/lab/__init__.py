"""The laboratory: what the `keras-pep` command does."""

import sys

_EXTRA = ("click", "filelock", "pandas", "plotly", "pyarrow", "tensorflow")


def main() -> None:
    """Run the command, or say what to install for it."""
    try:
        from keras_pep.lab.cli import main as command
    except ModuleNotFoundError as error:
        _say_what_to_install(error)
    try:
        command()
    except ModuleNotFoundError as error:
        _say_what_to_install(error)


def _say_what_to_install(error: ModuleNotFoundError) -> None:
    if error.name is None or error.name.partition(".")[0] not in _EXTRA:
        raise error
    sys.exit(
        f"Error: {error.name} is not installed. The command needs an extra: "
        'pip install "keras-pep[train]".'
    )
