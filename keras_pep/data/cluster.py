"""Prepares files on a cluster, by a pipeline of Apache Beam.

The unit of work is a file. Every pass reads each of them with the functions of
`prepare`, somewhere; the launcher adds up what they find, so that the folder is
the one that `prepare` makes alone, byte for byte. Counts come together by one
keyed combine of all fields: the key is a field and a part of its values. Ids
come back as one folder a file, and are joined in order.
"""

import pickle
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.fs
from apache_beam.options.pipeline_options import (
    PipelineOptions,
    StandardOptions,
)

from keras_pep.data.checked import Counted
from keras_pep.data.counting import ValueCounter, added, shrink
from keras_pep.data.dataset import DataError
from keras_pep.data.fields import Field
from keras_pep.data.fitting import Look, completed, look
from keras_pep.data.numbering import Numbered, number_rows
from keras_pep.data.prepare import Here, count_rows, counters_of
from keras_pep.data.remote import copied
from keras_pep.data.source import Source
from keras_pep.data.splits import Rule, Times
from keras_pep.data.stored import SPLITS, VALUES, ColumnWriter

_PARTS = 16  # of the values of a field, each of which fits in memory
_HELD = 16  # tables that are added up at once


@dataclass(kw_only=True)
class Cluster(Here):
    """Reads files wherever a runner of Beam puts the work.

    Args:
        options: Of a Beam pipeline, as on a command line. `--temp_location` is
            where machines leave files for one another, a path or a URI.
        folder: For what this machine reads of these; the default of the other.
        uris: Of files that only this machine has copies of.
    """

    options: Sequence[str]
    folder: Path
    uris: Mapping[Path, str] = field(default_factory=dict)
    _before: Sequence[int] = ()
    _sizes: Sequence[np.ndarray] = ()

    def rule(self, source: Source) -> Rule:
        """Find where splits begin."""
        times = Times(source.split.column)
        parts = self._passed(source, 0, _times)
        for part, path in zip(parts, source.files.paths, strict=True):
            times.every += part.every
            each, rows = part.sum()
            times.add(each, rows, part.kinds, path)
        self._set_before(parts)
        return source.split.cut(times)

    def fields(self, source: Source, seed: int) -> tuple[Field, ...]:
        """Find the edges of numbers and the lengths of lists."""
        self._count_files(source)
        first, *others = self._passed(source, seed, _look)
        for other in others:
            first.add(other)
        return completed(source, first)

    def counted(
        self, source: Source, seed: int, counters: Sequence[ValueCounter]
    ) -> Counted:
        """Count the values of all rows."""
        self._count_files(source)

        def take(folder: Path) -> None:
            for path in sorted(folder.glob("*/*.arrow")):
                with pa.OSFile(str(path)) as file:
                    table = pa.ipc.open_file(file).read_all()
                counters[int(path.parent.name)].take(table)
                shrink(counters)

        parts = self._passed(source, seed, _count, take)
        self._sizes = [each.sizes for each in parts]
        every = Counted()
        for each in parts:
            every.add(each)
        return every

    def numbered(
        self, source: Source, seed: int, folder: Path, sizes: np.ndarray
    ) -> Numbered:
        """Write the columns of all rows, by the values that are there."""

        def join(made: Path) -> None:
            writers: dict[str, ColumnWriter] = {}
            for file in range(len(self._sizes)):
                of = [made / str(file) / split for split in SPLITS]
                for path in of[0].iterdir():
                    some = [np.load(each / path.name, "r") for each in of]
                    if path.stem not in writers:
                        length = some[0].shape[1] if some[0].ndim > 1 else 1
                        writers[path.stem] = ColumnWriter(
                            folder, path.stem, some[0].dtype, sizes, length
                        )
                    writers[path.stem].write(some)

        number = partial(_number, sizes=self._sizes)
        given = folder / VALUES
        first, *others = self._passed(source, seed, number, join, given)
        every: Numbered = first
        for other in others:
            every.add(other)
        return every

    def _count_files(self, source: Source) -> None:
        """Count the rows of each file, if what is drawn depends on them."""
        draws = source.split.by in ("random", "files")
        if draws and not self._before and len(source.files.paths) > 1:
            self._set_before(self._passed(source, 0, _times))

    def _set_before(self, parts: Sequence[Times]) -> None:
        rows = np.cumsum([0, *(each.every for each in parts)])
        self._before = rows[:-1].tolist()

    def _passed(
        self,
        source: Source,
        seed: int,
        function: "_Function",
        take: Callable[[Path], None] | None = None,
        given: Path | None = None,
    ) -> list[Any]:
        """Read every file once.

        Args:
            source: Files and fields.
            seed: Of the split.
            function: Reads a file.
            take: Called with the folder of all that was made.
            given: A file that is needed everywhere.

        Returns:
            What was found in each file.
        """
        options = PipelineOptions([*self.options])
        standard = options.view_as(StandardOptions)
        # The default of Beam downloads a program.
        standard.runner = standard.runner or "BundleBasedDirectRunner"
        files = range(len(source.files.paths))
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            here = Path(name)
            work = _Work(
                source=replace(source, earlier=None),
                seed=seed,
                place=options.get_all_options()["temp_location"] or name,
                name=f"keras-pep-{uuid.uuid4().hex}",
                uris=self.uris,
                before=self._before,
            )
            try:
                work.make()
            except (pa.ArrowException, OSError) as error:
                raise DataError(
                    f"--temp_location {work.place}: cannot be written: {error}"
                ) from error
            try:
                if given:
                    (here / "given").mkdir()
                    shutil.copy(given, here / "given")
                    work.put("given", here / "given")
                with beam.Pipeline(options=options) as pipeline:
                    keyed = (
                        pipeline
                        | beam.Create(files)
                        | beam.Reshuffle()
                        | "Read" >> beam.FlatMap(partial(_read, work, function))
                    )
                    if function is _count:
                        sums = keyed | beam.CombinePerKey(_Sum())
                        _ = sums | "Leave" >> beam.Map(partial(_write, work))
                found = [
                    pickle.loads((folder / "found").read_bytes())
                    for file in files
                    for folder in [work.get(f"found/{file}", here / str(file))]
                ]
                for each in found:
                    if isinstance(each, DataError):
                        raise each
                if take:
                    take(work.get("made", here / "made"))
            except DataError:
                raise
            except Exception as error:  # every runner has its own
                raise DataError(f"Beam has failed: {error}") from error
            finally:
                work.remove()
        return found


@dataclass(kw_only=True)
class _Work:
    """A pass, as every machine knows it.

    Attributes:
        source: Files and fields.
        seed: Of the split.
        place: Folder that all reach, a path or a URI.
        name: Of the folder in it for what a pass leaves.
        uris: Of files that only the launcher has copies of.
        before: Rows in the files before each, if they matter.
    """

    source: Source
    seed: int
    place: str
    name: str
    uris: Mapping[Path, str]
    before: Sequence[int]

    def random(self, file: int) -> np.random.Generator:
        """Draw for a file what is drawn for it where all are read."""
        bits = np.random.PCG64(self.seed)
        if self.before:
            bits.advance(self.before[file])
        return np.random.Generator(bits)

    def with_file(self, file: int, folder: Path) -> "_Work":
        """Make sure that this machine can open a file."""
        files = self.source.files
        path = files.paths[file]
        if path not in self.uris or path.exists():
            return self
        paths = [*files.paths]
        paths[file] = copied(self.uris[path], folder)
        files = replace(files, paths=tuple(paths))
        return replace(self, source=replace(self.source, files=files))

    def make(self) -> None:
        """Make the folder for what a pass leaves."""
        store, place = self._store
        store.create_dir(place, recursive=True)

    def put(self, name: str, folder: Path) -> None:
        """Copy the files of a folder to where all others find them."""
        store, place = self._store
        store.create_dir(f"{place}/{name}", recursive=True)
        pa.fs.copy_files(
            str(folder),
            f"{place}/{name}",
            source_filesystem=pa.fs.LocalFileSystem(),
            destination_filesystem=store,
        )

    def get(self, name: str, folder: Path) -> Path:
        """Copy the files that `put` has copied, if they are not on a disk."""
        store, place = self._store
        if store.type_name == "local":
            return Path(place, name)
        folder.mkdir()
        pa.fs.copy_files(
            f"{place}/{name}",
            str(folder),
            source_filesystem=store,
            destination_filesystem=pa.fs.LocalFileSystem(),
        )
        return folder

    def remove(self) -> None:
        """Remove what a pass has left."""
        store, place = self._store
        store.delete_dir(place)

    @property
    def _store(self) -> tuple[Any, str]:
        store, place = pa.fs.FileSystem.from_uri(self.place)
        return store, f"{place}/{self.name}"


_Keyed = Iterable[tuple[tuple[int, int], Any]]
# Reads a file with an empty folder at hand; says what it has found, and counts.
_Function = Callable[[_Work, int, Path], tuple[Any, _Keyed]]


def _read(work: _Work, function: _Function, file: int) -> Iterator[Any]:
    """Read a file, and leave what was found and made for the launcher."""
    with tempfile.TemporaryDirectory() as name:
        for each in ("made", "found", "spilled"):
            Path(name, each).mkdir()
        folder = Path(name)
        keyed: _Keyed = ()
        try:
            with_file = work.with_file(file, folder / "copies")
            found, keyed = function(with_file, file, folder)
        except DataError as error:
            found = error
        (folder / "found/found").write_bytes(pickle.dumps(found))
        work.put(f"found/{file}", folder / "found")
        if any((folder / "made").iterdir()):
            work.put("made", folder / "made")
        yield from keyed


def _times(work: _Work, file: int, _: Path) -> tuple[Times, _Keyed]:
    source = work.source
    return source.split.times(source.files, source.label, file), ()


def _look(work: _Work, file: int, _: Path) -> tuple[Look, _Keyed]:
    return look(work.source, work.seed, work.random(file), file), ()


def _count(work: _Work, file: int, folder: Path) -> tuple[Counted, _Keyed]:
    counters = counters_of(work.source.fields, folder / "spilled")
    counted = count_rows(work.source, work.random(file), counters, file)
    if first := counted.malformed.first:
        counted.malformed.first = partial(str, first())
    return counted, _keyed(counters)


def _keyed(counters: Sequence[ValueCounter]) -> _Keyed:
    """Divide the counts of each field into parts of its values."""
    for place, counter in enumerate(counters):
        for table in counter.told():
            values = np.asarray(table["value"].to_pylist(), dtype=object)
            hashes = pd.util.hash_array(values, categorize=False)
            parts = hashes % np.uint64(_PARTS)
            for part in np.unique(parts):
                yield (place, int(part)), table.filter(pa.array(parts == part))


def _number(
    work: _Work, file: int, folder: Path, sizes: Sequence[np.ndarray]
) -> tuple[Numbered, _Keyed]:
    values = work.get("given", folder / "given")
    made = folder / "made" / str(file)
    made.mkdir()
    random = work.random(file)
    return number_rows(work.source, random, values, made, sizes[file], file), ()


class _Sum(beam.CombineFn):
    """Adds up tables of counts."""

    def create_accumulator(self) -> list[Any]:
        return []

    def add_input(self, tables: list[Any], table: Any) -> list[Any]:
        return self.compact([*tables, table])

    def merge_accumulators(self, every: Iterable[list[Any]]) -> list[Any]:
        made: list[Any] = []
        for tables in every:
            made = self.compact([*made, *tables])
        return made

    def compact(self, tables: list[Any]) -> list[Any]:
        return tables if len(tables) < _HELD else [added(tables)]

    def extract_output(self, tables: list[Any]) -> Any:
        return added(tables)


def _write(work: _Work, keyed: tuple[tuple[int, int], Any]) -> None:
    """Leave the counts of a part of a field's values for the launcher."""
    (place, part), table = keyed
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, str(place))
        folder.mkdir()
        path = folder / f"{part}.arrow"
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
        work.put("made", Path(name))
