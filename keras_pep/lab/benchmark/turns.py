"""Measuring several programs side by side: processes that take turns."""

import contextlib
import mmap
import multiprocessing
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

# Yields once when its libraries are loaded, whatever it likes, and from then on
# the milliseconds per step of one block after the other.
Program = Callable[[], Iterator[float]]
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Measured:
    """The measurements of one program.

    Attributes:
        milliseconds: Per step, one figure for each block.
        memory: The process' peak, in bytes, above what it held when its
            libraries were loaded.
    """

    milliseconds: Sequence[float]
    memory: int = 0

    @property
    def median(self) -> float:
        """Median over blocks, in milliseconds per step."""
        return statistics.median(self.milliseconds)

    def spread(self, digits: int = 1) -> str:
        """Fastest and slowest block."""
        fastest, slowest = min(self.milliseconds), max(self.milliseconds)
        return f"{fastest:.{digits}f} - {slowest:.{digits}f}"


def take_turns(
    programs: Mapping[str, Program], blocks: int
) -> dict[str, Measured]:
    """Run programs block by block in turn, each in a process of its own.

    Whatever else the machine is doing meets all of them alike, only one
    computes at any time, and the memory of each can be told apart.

    Args:
        programs: By name. They are sent to their process, so they must be
            functions of a module, or `functools.partial` of one.
        blocks: How often each runs, after one run to warm up.

    Raises:
        RuntimeError: If a program fails, or the system has no `/proc`.
    """
    if not _STATUS.exists():
        raise RuntimeError(
            f"Memory is read from {_STATUS}, which this system does not have: "
            "measure on Linux. The tables loop and sizes do not need it."
        )
    with contextlib.ExitStack() as stack:
        running = {}
        for name, program in programs.items():
            log = stack.enter_context(tempfile.TemporaryFile())
            running[name] = _Running(name, program, log)
            stack.callback(running[name].end)
            running[name].ask(None)  # prepared, one after the other
        times: dict[str, list[float]] = {name: [] for name in running}
        for _ in range(blocks):
            for name, process in running.items():
                times[name].append(process.ask("block"))
        return {
            name: Measured(times[name], int(process.ask("memory")))
            for name, process in running.items()
        }


class _Running:
    """A program in its process.

    Args:
        name: Its name.
        program: The program.
        log: Where its errors go. What libraries log as they are loaded is of
            interest only if it fails.
    """

    def __init__(self, name: str, program: Program, log: IO[bytes]) -> None:
        self.name = name
        self._log = log
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        with _stderr_to(log.fileno()):
            self._process = context.Process(
                target=_serve, args=(program, theirs), daemon=True
            )
            self._process.start()
        theirs.close()

    def ask(self, question: str | None) -> float:
        """Ask for a block or the memory, or wait for it to be prepared."""
        try:
            if question is not None:
                self._pipe.send(question)
            answer: float = self._pipe.recv()
        except (EOFError, BrokenPipeError) as error:
            self._log.seek(0)
            lines = self._log.read().decode(errors="replace").splitlines()
            reason = lines[-1] if lines else "it ended without a word"
            raise RuntimeError(
                f"The benchmark of {self.name!r} failed: {reason}"
            ) from error
        return answer

    def end(self) -> None:
        """End the process, whether it is done or not."""
        self._pipe.close()
        self._process.terminate()
        self._process.join()
        self._process.close()


@contextlib.contextmanager
def _stderr_to(target: int) -> Iterator[None]:
    """Let what is started meanwhile write its errors elsewhere."""
    sys.stderr.flush()
    kept = os.dup(2)
    os.dup2(target, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _serve(program: Program, connection: Connection) -> None:
    """The other process."""
    turns = program()
    next(turns)
    before = resident()
    connection.send(next(turns))
    while connection.recv() == "block":
        connection.send(next(turns))
    connection.send(peak() - before)


def peak() -> int:
    """Most memory that this process has held, in bytes."""
    # `getrusage` would give the parent's, if that was larger.
    status = _STATUS.read_text()
    kibibytes = status.split("VmHWM:")[1].split()[0]
    return int(kibibytes) * 1024


def resident() -> int:
    """Memory that this process holds now, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * mmap.PAGESIZE
