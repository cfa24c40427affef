"""Apache Beam prepares the same files as the local way."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.fs
import pytest
from click.testing import CliRunner

from keras_pep import data
from keras_pep.data import DataError, tabular
from keras_pep.data.remote import uris_below
from keras_pep.lab.cli import main
from tests.data.test_remote import moto_server, uri

pytest.importorskip("apache_beam")

RUNNERS = ("BundleBasedDirectRunner", "FnApiRunner")
SPLITS = ("random", "time:when", "column:part")


@pytest.fixture
def clicks(tmp_path):
    """Files of all kinds of columns, with rows that are malformed."""
    random = np.random.default_rng(0)
    rows = 900
    frame = pd.DataFrame(
        {
            "clicked": random.integers(0, 2, rows),
            "user": random.zipf(1.4, rows) % 50,
            "price": random.normal(0, 9, rows).round(2),
            "tags": [f"a|b{n % 7}|c{n % 3}" for n in range(rows)],
            "when": 1_700_000_000 + random.integers(0, 90_000, rows),
            "part": random.choice(["train", "validation", "test"], rows),
        }
    ).astype(str)
    frame.loc[::7, "user"] += ".0"  # another spelling
    frame.loc[::11, "price"] = "n/a"
    frame.loc[450, "price"] = "cheap"
    folder = tmp_path / "clicks"
    folder.mkdir()
    for name, part in enumerate((frame[:500], frame[500:510], frame[510:])):
        part.to_csv(folder / f"{name}.csv", index=False)
    return folder


def prepared(path, cache, beam=None, **settings):
    """The files that preparing makes, by their names."""
    data.load(
        path,
        label="clicked",
        cache_dir=cache,
        beam=beam,
        max_bad_rows=0.01,
        **{"min_count": 3, "seed": 5, **settings},
    )
    return files(cache)


def files(cache):
    return {
        path.relative_to(cache): path.read_bytes()
        for path in cache.rglob("*")
        if path.is_file()
    }


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("split", SPLITS)
def test_every_file_is_that_of_the_local_way(clicks, tmp_path, split, runner):
    fields = ["user", "price:number", "tags:list", "when:time"]
    options = {"split": split, "fields": fields}
    expected = prepared(clicks, tmp_path / "local", **options)
    beam = [f"--runner={runner}"]
    assert prepared(clicks, tmp_path / "beam", beam, **options) == expected
    assert len(expected) > 3 * 6


def test_criteo_is_that_of_the_local_way(small_criteo, tmp_path):
    for cache, beam in (("local", None), ("beam", ())):
        data.load(
            "criteo", small_criteo, min_count=2,
            cache_dir=tmp_path / cache, beam=beam,
        )  # fmt: skip
    assert files(tmp_path / "local") == files(tmp_path / "beam")


def test_files_of_a_split_of_their_own_and_earlier_data(clicks, tmp_path):
    first, second, third = sorted(clicks.iterdir())
    settings = {"validation_file": second, "fields": ["user", "when:time"]}
    expected = prepared(first, tmp_path / "local", **settings)
    assert prepared(first, tmp_path / "beam", (), **settings) == expected
    before = data.load(first, label="clicked", cache_dir=tmp_path / "before",
                       fields=["user"], max_bad_rows=0.01)  # fmt: skip
    earlier = data.Earlier(before.vocabularies, before.seen, decay=0.5)
    expected = prepared(third, tmp_path / "local2", earlier=earlier)
    assert prepared(third, tmp_path / "beam2", (), earlier=earlier) == expected


def test_an_error_is_that_of_the_local_way(clicks, tmp_path):
    fields = ["user:number", "price"]
    with (clicks / "2.csv").open("a") as file:
        file.write("\n".join(["1,ann,3,a,1700000000,test"] * 50) + "\n")
    said = []
    for name, beam in (("local", None), ("beam", ())):
        with pytest.raises(DataError) as error:
            prepared(clicks, tmp_path / name, beam, fields=fields)
        said.append(str(error.value))
        assert not files(tmp_path / name)
    assert said[0] == said[1]
    assert "2.csv, row 391: found 'ann' in column 'user'" in said[0]


def test_machines_leave_files_where_they_are_told_to(clicks, tmp_path):
    place = tmp_path / "shared"
    place.mkdir()
    prepared(clicks, tmp_path / "beam", [f"--temp_location={place}"])
    assert not [*place.iterdir()]  # and the launcher removes them
    with pytest.raises(DataError, match="--temp_location s5://no: cannot"):
        prepared(clicks, tmp_path / "none", ["--temp_location=s5://no"])
    with pytest.raises(DataError, match="Beam has failed: "):
        prepared(clicks, tmp_path / "none", ["--runner=none"])


def test_the_command_passes_on_what_follows(clicks, tmp_path):
    options = ["prepare", "--dataset", clicks, "--label", "clicked"]
    options += ["--max-bad-rows", "0.01", "--cache-dir", tmp_path / "cache"]
    wrong = CliRunner().invoke(main, [*map(str, options), "--", "--runner=x"])
    assert wrong.exit_code == 2
    assert "expected none without --runner beam" in wrong.output
    beam = ["--runner", "beam", "--", "--runner=BundleBasedDirectRunner"]
    found = CliRunner().invoke(main, [*map(str, options), *beam])
    assert not found.exit_code, found.output
    assert "rows: train" in found.output
    assert found.output.count("clicks: counting values") == 1


def test_a_machine_fetches_a_file_that_it_does_not_have(clicks, tmp_path):
    from keras_pep.data.cluster import _Work

    source = tabular.source(clicks, "clicked", ["user"])
    store = clicks.rename(tmp_path / "store")
    uris = uris_below(store.as_uri(), clicks, source.files.paths)
    work = _Work(source=source, seed=0, place="", name="", uris=uris, before=())
    files = work.with_file(1, tmp_path / "copies").source.files
    assert files.paths[1].read_bytes() == (store / "1.csv").read_bytes()
    assert files.paths[::2] == source.files.paths[::2]


def test_machines_leave_files_in_a_store(clicks, tmp_path, monkeypatch):
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.setenv(f"AWS_{name}", "none")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    sources = {
        f"clicks/{path.name}": path.read_bytes() for path in clicks.iterdir()
    }
    expected = prepared(clicks, tmp_path / "local", fields=["user", "price"])
    with moto_server(sources) as server:
        beam = [f"--temp_location={uri(server, 'temp')}"]
        found = prepared(
            uri(server), tmp_path / "beam", beam, fields=["user", "price"]
        )
        store, _ = pa.fs.FileSystem.from_uri(uri(server))
        left = store.get_file_info(pa.fs.FileSelector("rows", recursive=True))
    assert {each.path for each in left if each.is_file} == {
        f"rows/{name}" for name in sources
    }
    expected, found = (
        {
            path.parts[-2:]: content
            for path, content in of.items()
            if path.suffix == ".npy"
        }
        for of in (expected, found)
    )
    assert len(found) == 3 * (1 + 2)
    assert found == expected
