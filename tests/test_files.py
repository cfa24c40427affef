import pytest

from keras_pep.files import whole


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.keras"
    with whole(path) as partial:
        partial.write_text("new")
        assert not path.exists()
        assert partial.suffix == ".keras"
    assert path.read_text() == "new"

    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            fail(path, error)
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def fail(path, error):
    with whole(path) as partial:
        partial.write_text("half")
        raise error
