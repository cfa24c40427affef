"""SavedModels in a store: on a disk that stands for one, and by S3 itself."""

import numpy as np
import pyarrow as pa
import pyarrow.fs
import pytest

import keras_pep
from keras_pep import files
from keras_pep.serving import ExportError, next_version, store
from tests.serving.serving import in_c_runtime

pytestmark = pytest.mark.requires_tensorflow


@pytest.fixture
def model():
    model = keras_pep.models.FM((5, 7), embedding_dim=4)
    model.build()
    return model


class Recorded:
    """A file system that says what it writes, and fails if it is told to."""

    type_name = "s3"

    def __init__(self, fails_at=None):
        self.written, self._fails_at = [], fails_at
        self._disk = pa.fs.LocalFileSystem()

    def __getattr__(self, name):
        return getattr(self._disk, name)

    def open_output_stream(self, path):
        if len(self.written) == self._fails_at:
            raise OSError("the connection broke")
        self.written.append(path.rpartition("/")[2])
        self._disk.create_dir(path.rpartition("/")[0], recursive=True)
        return self._disk.open_output_stream(path)


def files_in(folder):
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file()
    )


def test_versions_in_a_store_are_those_on_a_disk(model, tmp_path):
    keras_pep.export_saved_model(model, tmp_path / "disk" / "1")
    folder = (tmp_path / "store").as_uri()
    assert next_version(folder) == 1
    made = keras_pep.export_saved_model(model, f"{folder}/1")
    assert made.path == f"{folder}/1"
    assert files_in(tmp_path / "store") == files_in(tmp_path / "disk")
    sizes = made.report["files_bytes"]
    assert sizes == keras_pep.serving.export.files_bytes(tmp_path / "store")
    assert next_version(folder) == 2
    with pytest.raises(ExportError, match=r"store/1 exists: choose another"):
        keras_pep.export_saved_model(model, f"{folder}/1")
    with pytest.raises(ExportError, match="s5://no/1: cannot be written: Unre"):
        keras_pep.export_saved_model(model, "s5://no/1")


def test_what_a_server_looks_for_comes_last(model, tmp_path, monkeypatch):
    recorded = Recorded()
    place = (tmp_path / "1").as_posix()
    monkeypatch.setattr(store, "_opened", lambda _: (recorded, place))
    keras_pep.export_saved_model(model, "s3://models/1")
    assert recorded.written[-1] == "saved_model.pb"
    assert len(recorded.written) == len(files_in(tmp_path / "1"))


def test_nothing_is_left_of_a_model_that_was_not_sent(
    model, tmp_path, monkeypatch
):
    recorded = Recorded(fails_at=2)
    place = (tmp_path / "1").as_posix()
    monkeypatch.setattr(store, "_opened", lambda _: (recorded, place))
    with pytest.raises(ExportError, match="cannot be written: the connection"):
        keras_pep.export_saved_model(model, "s3://models/1")
    assert len(recorded.written) == 2
    assert not files_in(tmp_path)


def test_names_are_joined_before_what_follows_a_question_mark():
    uri = "s3://models/clicks?scheme=http"
    version = files.joined(uri, "3")
    assert version == "s3://models/clicks/3?scheme=http"
    assert files.folder_of(version) == uri


@pytest.fixture
def s3(monkeypatch):
    """A server, its address, and a client of it."""
    moto = pytest.importorskip("moto.server")
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.setenv(f"AWS_{name}", "none")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    address = "{}:{}".format(*server.get_host_and_port())
    client = pa.fs.S3FileSystem(
        endpoint_override=address, scheme="http", allow_bucket_creation=True
    )
    client.create_dir("models")
    yield server, address, client
    server.stop()


def test_an_export_to_s3_is_served(model, tmp_path, s3):
    _, address, client = s3
    folder = f"s3://models/fm?scheme=http&endpoint_override={address}"
    assert next_version(folder) == 1
    uri = files.joined(folder, "1")
    keras_pep.export_saved_model(model, uri)
    assert next_version(folder) == 2
    with pytest.raises(ExportError, match="exists: choose another"):
        keras_pep.export_saved_model(model, uri)
    pa.fs.copy_files(
        "models/fm/1",
        str(tmp_path / "1"),
        source_filesystem=client,
        destination_filesystem=pa.fs.LocalFileSystem(),
    )
    ids = np.array([[0, 0], [4, 6]], np.int32)
    (answer,) = in_c_runtime(tmp_path / "1", [("ids", {"ids": ids})])
    logits = keras_pep.metrics.predict(model, ids).reshape(-1)
    np.testing.assert_allclose(  # sums of float32 in another order
        answer["probability"], 1 / (1 + np.exp(-logits)), atol=1e-6
    )


@pytest.mark.slow
def test_a_server_that_goes_away_is_told_of(model, s3, monkeypatch):
    server, address, _ = s3
    opened, written = store._opened, []

    class Gone:
        def __init__(self, real):
            self._real = real

        def __getattr__(self, name):
            return getattr(self._real, name)

        def open_output_stream(self, path):
            if written:
                server.stop()
            written.append(path)
            return self._real.open_output_stream(path)

    def watched(uri):
        real, place = opened(uri)
        return Gone(real), place

    monkeypatch.setattr(store, "_opened", watched)
    uri = f"s3://models/gone/1?scheme=http&endpoint_override={address}"
    with pytest.raises(
        ExportError, match=r"gone/1.*: cannot be written: .*onnect"
    ):
        keras_pep.export_saved_model(model, uri)
    assert len(written) == 2
