"""The command in processes that find TensorFlow and Keras imported."""

import multiprocessing
import os
from pathlib import Path

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["keras_pep.lab.cli", "keras_pep.lab.report"])


class Command(processes.Process):
    """A command that has been started.

    Args:
        folder: Where it runs.
        *arguments: Its arguments.
        env: More variables of its environment.
        said: It prints to `<said>.out` and `<said>.err`.
        before: A function that its process calls first.
    """

    def __init__(self, folder, *arguments, env=(), said="output", before=None):
        super().__init__()
        self.folder, self.said, self.before = folder, said, before
        self.arguments, self.env = [*map(str, arguments)], env
        self.start()

    def run(self):
        os.environ.update(self.env)
        os.chdir(self.folder)
        for descriptor, end in ((1, "out"), (2, "err")):
            with Path(f"{self.said}.{end}").open("w") as file:
                os.dup2(file.fileno(), descriptor)
        from keras_pep.lab.cli import main

        if self.before:
            self.before()
        main(self.arguments, prog_name="keras-pep")

    def ended(self):
        """Its exit code, and what it has printed."""
        self.join(900)
        paths = (self.folder / f"{self.said}.{end}" for end in ("out", "err"))
        return self.exitcode, *(path.read_text() for path in paths)
