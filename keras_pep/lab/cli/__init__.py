"""The `keras-pep` command."""

import click

from keras_pep.lab.cli.benchmark import benchmark
from keras_pep.lab.cli.common import Commands
from keras_pep.lab.cli.compare import compare
from keras_pep.lab.cli.evaluate import evaluate
from keras_pep.lab.cli.export import export
from keras_pep.lab.cli.inspect import inspect
from keras_pep.lab.cli.predict import predict
from keras_pep.lab.cli.prepare import prepare
from keras_pep.lab.cli.replay import replay
from keras_pep.lab.cli.report import report
from keras_pep.lab.cli.train import train


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="keras-pep")
def main() -> None:
    """Prune the embedding tables of recommenders, and store them small.

    \b
    Example:
      keras-pep train --dataset synthetic
    """


main.add_command(train)
main.add_command(prepare)
main.add_command(evaluate)
main.add_command(report)
main.add_command(compare)
main.add_command(predict)
main.add_command(export)
main.add_command(inspect)
main.add_command(replay)
main.add_command(benchmark)
