import gc
import os
import shutil
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# There are as many workers as cores.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Programs of tests run for less time than XLA takes to make them fast.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true",
)

import numpy as np
import pytest

TESTS = Path(__file__).parent
DATA = TESTS.parents[1] / "shared" / "data"
# Folders of tests whose subject needs TensorFlow: the laboratory trains, and
# SavedModels are served, with it.
NEED_TENSORFLOW = {"apps_serving", "lab", "serving", "tfrs"}


BACKEND = os.environ.get("KERAS_BACKEND", "tensorflow")


def pytest_collection_modifyitems(items):
    """Skip, with the reason, what the backend under test cannot do."""
    if BACKEND == "tensorflow":
        return
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        on_torch = item.get_closest_marker("skip_on_torch")
        if folder in NEED_TENSORFLOW or item.get_closest_marker(
            "requires_tensorflow"
        ):
            reason = f"needs TensorFlow, not {BACKEND}"
        elif on_torch and BACKEND == "torch":
            reason = f"PyTorch: {on_torch.args[0]}"
        else:
            continue
        item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def _arrays_have_numpy():
    """Let tests read arrays by `numpy()`, as TensorFlow has it."""
    import keras

    array = type(keras.ops.zeros(1))
    if BACKEND == "jax":
        array.numpy = lambda self: np.asarray(self)
    elif BACKEND == "torch":
        numpy = array.numpy
        array.numpy = lambda self, **options: numpy(self.detach(), **options)


@pytest.fixture(scope="session", autouse=True)
def _graphs_run_as_they_are():
    """Do not let TensorFlow optimize graphs that run for a few steps.

    Programs in processes of their own, as the command, run with all of it.
    """
    if BACKEND == "tensorflow":
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options(
            {"disable_meta_optimizer": True}
        )


@pytest.fixture
def eager():
    """Have TensorFlow run functions as they are."""
    from tests.backends import eagerly

    with eagerly():
        yield


@pytest.fixture(scope="module", autouse=True)
def _what_stays_is_no_garbage():
    """Look for garbage once a module, and at new objects alone.

    `clear_session` would look at all of them, for seconds in every test.
    """
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _reproducible(tmp_path, monkeypatch):
    import keras  # not by the process that only hands tests out

    monkeypatch.setenv("KERAS_PEP_CACHE", str(tmp_path / "keras-pep"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))

    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def shared_data():
    if not DATA.is_dir():
        pytest.skip("no real data in ../shared/data")
    return DATA


@pytest.fixture(scope="session")
def ml_1m(shared_data):
    return shared_data / "ml-1m"


@pytest.fixture
def small_movielens(movielens, tmp_path):
    """A copy of `movielens` that a test may change."""
    return shutil.copytree(movielens, tmp_path / "ml-1m")


@pytest.fixture(scope="session")
def movielens(tmp_path_factory):
    """A folder in MovieLens' own format: 4,000 ratings, learnable, tiny."""
    random = np.random.default_rng(0)
    users, movies, ratings = 50, 40, 4000
    genres = ["Comedy", "Drama|War", "Animation|Children's"]
    folder = tmp_path_factory.mktemp("movielens")
    (folder / "users.dat").write_text(
        "".join(
            f"{u}::{'FM'[u % 2]}::{(1, 18, 25)[u % 3]}::{u % 5}::{u % 20:05}\n"
            for u in range(1, users + 1)
        )
    )
    (folder / "movies.dat").write_bytes(
        "".join(
            f"{m}::Amélie: Part {m} ({1980 + m % 10})::{genres[m % 3]}\n"
            for m in range(1, movies + 1)
        ).encode("latin-1")
    )
    lines = []
    for n in range(ratings):
        user = random.integers(1, users + 1)
        movie = random.integers(1, movies + 1)
        likes = user % 2 == movie % 2
        rating = random.choice([4, 5, 3] if likes else [1, 2, 3])
        lines.append(f"{user}::{movie}::{rating}::{978300000 + 60 * n}\n")
    (folder / "ratings.dat").write_text("".join(lines))
    return folder


@pytest.fixture
def small_movielens_100k(tmp_path):
    """The same in the format of MovieLens-100K, with a movie without year."""
    random = np.random.default_rng(0)
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    jobs = ["technician", "none", "student"]
    (folder / "u.user").write_text(
        "".join(
            f"{u}|{u % 50 + 7}|{'FM'[u % 2]}|{jobs[u % 3]}|{u % 20:05}\n"
            for u in range(1, 51)
        )
    )
    lines = []
    for m in range(1, 41):
        title = f"Amélie: Part {m} ({1960 + m % 10})" if m > 1 else "unknown"
        flags = "|".join(str(int((m + g) % 7 == 0)) for g in range(19))
        lines.append(f"{m}|{title}|01-Jan-1995||http://a.b/?{m}|{flags}\n")
    (folder / "u.item").write_bytes("".join(lines).encode("latin-1"))
    lines = []
    for n in range(4000):
        user, movie = n % 50 + 1, random.integers(1, 41)
        rating = random.integers(1, 6)
        lines.append(f"{user}\t{movie}\t{rating}\t{880000000 + 60 * n}\n")
    (folder / "u.data").write_text("".join(lines))
    return folder


@pytest.fixture(scope="session")
def clicks(tmp_path_factory):
    """A dataset of one's own, with fields of every kind."""
    import keras_pep
    from tests.clicks import FIELDS, labelled_rows, write_csv

    folder = tmp_path_factory.mktemp("clicks")
    write_csv(folder / "clicks.csv", labelled_rows(2000))
    return keras_pep.data.load(
        folder / "clicks.csv",
        label="clicked",
        fields=FIELDS,
        min_count=8,
        cache_dir=folder / "cache",
    )


@pytest.fixture(scope="session")
def clicks_model(clicks):
    import keras

    import keras_pep
    from tests.clicks import drawn

    keras.utils.set_random_seed(0)
    model = keras_pep.models.FM(
        clicks.field_sizes, 8, field_lengths=clicks.field_lengths
    )
    model.build()
    return drawn(model)


@pytest.fixture(params=["tricks", "plain"])
def either_way(request, monkeypatch):
    """TensorFlow computes with every trick of `_tf_kernels`, or with none."""
    from keras_pep._tf_kernels import USED

    for name in USED:
        monkeypatch.setitem(USED, name, request.param == "tricks")
