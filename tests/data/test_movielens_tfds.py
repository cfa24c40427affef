import socket

import pytest

from keras_pep import data
from keras_pep.data import DataError, movielens_tfds
from keras_pep.data.movielens_files import GENRES

tfds = pytest.importorskip(
    "tensorflow_datasets", reason="keras-pep[tfds] is not installed"
)


@pytest.fixture
def archives(monkeypatch, small_movielens, small_movielens_100k):
    """TFDS finds what it would download in folders that the test has written.

    All else is its own: parsing, shuffling, writing and reading records.
    """
    folders = {"1m": small_movielens, "100k": small_movielens_100k}

    def extracted(_, urls):
        (folder,) = (f for name, f in folders.items() if name in str(urls))
        return str(folder.parent)

    monkeypatch.setattr(
        tfds.download.DownloadManager, "download_and_extract", extracted
    )
    monkeypatch.setattr(
        movielens_tfds.socket, "create_connection", lambda *_: socket.socket()
    )
    return {"movielens": folders["1m"], "movielens-100k": folders["100k"]}


@pytest.mark.parametrize("name", ["movielens", "movielens-100k"])
def test_rows_ids_and_splits_are_those_of_the_files(archives, name):
    for features in ("full", "paper"):
        by_tfds = data.load(name, features=features, seed=1)
        by_files = data.load(name, archives[name], features=features, seed=1)
        assert len(by_tfds.train) > 1000
        assert by_tfds.fingerprint() == by_files.fingerprint()


@pytest.mark.usefixtures("archives")
def test_what_is_prepared_needs_no_network(monkeypatch):
    first = data.load("movielens").fingerprint()
    monkeypatch.setattr(movielens_tfds.socket, "create_connection", no_network)
    assert data.load("movielens").fingerprint() == first


def no_network(*_):
    raise OSError("Network is unreachable")


@pytest.mark.parametrize("name", ["movielens", "movielens-100k"])
def test_without_network_the_error_comes_at_once(monkeypatch, name):
    monkeypatch.setattr(movielens_tfds.socket, "create_connection", no_network)
    with pytest.raises(
        DataError, match=r"cannot be reached \(Network is.*--data-dir"
    ):
        data.load(name)


def test_the_genres_are_those_of_tfds():
    names = tfds.builder("movielens/1m-ratings").info.features
    ours = {
        movielens_tfds._GENRES.get(g, g)
        for g in names["movie_genres"].feature.names
    }
    assert ours >= set(GENRES)
