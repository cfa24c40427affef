"""Measuring several programs side by side: processes that take turns."""

import multiprocessing
import resource
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

# Yields once when its libraries are loaded, whatever it likes, and from then on
# the milliseconds per step of one block after the other.
Program = Callable[[], Iterator[float]]


@dataclass(frozen=True)
class Measured:
    """What a program has shown.

    Attributes:
        milliseconds: Per step, one figure for each block.
        memory: The process' peak, in bytes, above what it held when its
            libraries were loaded.
    """

    milliseconds: Sequence[float]
    memory: int

    @property
    def median(self) -> float:
        """Median over blocks, in milliseconds per step."""
        return statistics.median(self.milliseconds)

    @property
    def spread(self) -> str:
        """Fastest and slowest block."""
        return f"{min(self.milliseconds):.1f} - {max(self.milliseconds):.1f}"


def take_turns(
    programs: Mapping[str, Program], blocks: int
) -> dict[str, Measured]:
    """Runs programs block by block in turn, each in a process of its own.

    Whatever else the machine is doing meets all of them alike, only one
    computes at any time, and the memory of each can be told apart.

    Args:
        programs: By name. They are sent to their process, so they must be
            functions of a module, or `functools.partial` of one.
        blocks: How often each runs, after one run to warm up.

    Raises:
        RuntimeError: If a program fails; its own traceback is on stderr.
    """
    context = multiprocessing.get_context("spawn")
    running = {}
    for name, program in programs.items():
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(program, theirs), daemon=True
        )
        process.start()
        theirs.close()
        running[name] = process, ours
        _ask(name, ours, None)  # prepared, one after the other
    times: dict[str, list[float]] = {name: [] for name in running}
    memory = {}
    for _ in range(blocks):
        for name, (_, ours) in running.items():
            times[name].append(_ask(name, ours, "block"))
    for name, (process, ours) in running.items():
        memory[name] = int(_ask(name, ours, "memory"))
        process.join()
    return {name: Measured(times[name], memory[name]) for name in running}


def _serve(program: Program, connection: Connection) -> None:
    """The other process."""
    turns = program()
    next(turns)
    before = resident()
    connection.send(next(turns))
    while connection.recv() == "block":
        connection.send(next(turns))
    connection.send(peak() - before)


def _ask(name: str, connection: Connection, question: str | None) -> float:
    try:
        if question is not None:
            connection.send(question)
        answer: float = connection.recv()
    except (EOFError, BrokenPipeError) as error:
        raise RuntimeError(f"The benchmark of {name!r} failed.") from error
    return answer


def peak() -> int:
    """Most memory that this process has held, in bytes."""
    # `getrusage` would give the parent's, if that was larger.
    status = Path("/proc/self/status").read_text()
    kibibytes = status.split("VmHWM:")[1].split()[0]
    return int(kibibytes) * 1024


def resident() -> int:
    """Memory that this process holds now, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
