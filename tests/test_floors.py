"""The library needs Keras and NumPy; the laboratory stands on it."""

import ast
from pathlib import Path

import keras
import pytest

import keras_pep
from tests.backends import python, run_on

PACKAGE = Path(keras_pep.__file__).parent
HEAVY = [
    *("click", "filelock", "pandas", "plotly"),
    *("pyarrow", "tensorflow", "tf_keras"),
]

WITHOUT_THEM = f"""
import sys

for name in {HEAVY}:
    sys.modules[name] = None  # cannot be imported
"""
QUICKSTART = Path(__file__).with_name("quickstart.py").read_text()


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def test_library_never_names_laboratory():
    files = [
        path
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] != "lab"
    ]
    assert len(files) > 50
    for path in files:
        assert not [x for x in imports(path) if "keras_pep.lab" in x], path


def test_import_loads_nothing():
    code = (
        "import sys; before = set(sys.modules); import keras_pep; "
        "print(*{m.split('.')[0] for m in set(sys.modules) - before})"
    )
    loaded = python("-c", code).stdout.split()
    assert "keras_pep" in loaded
    assert not {*HEAVY, "keras", "numpy"} & {*loaded}


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_arrays_on_keras_and_numpy_alone(backend):
    pytest.importorskip(backend)
    kept, auc = run_on(backend, "-c", WITHOUT_THEM + QUICKSTART)
    assert kept == 40
    assert auc > 0.9


EITHER_ORDER = """
import importlib, os, sys
importlib.import_module(sys.argv[1])  # not loaded again in each child
for names in ["keras", "keras_pep"], ["keras_pep", "keras"]:
    child = os.fork()
    if not child:
        keras = dict(zip(names, map(importlib.import_module, names)))["keras"]
        model = keras.saving.load_model(sys.argv[2])
        os._exit(type(model.embedding).__name__ != "PEPEmbedding")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, names
print(2)
"""


def test_saved_model_loads_after_import_in_either_order(tmp_path):
    model = keras_pep.models.FM([3, 4], 2)
    model.build()
    path, backend = tmp_path / "fm.keras", keras.backend.backend()
    model.save(path)
    program = ("-W", "ignore", "-c", EITHER_ORDER)
    assert run_on(backend, *program, backend, str(path)) == 2


def test_public_names():
    assert {*keras_pep.__all__} <= {*dir(keras_pep)}
    for name in keras_pep.__all__:
        assert getattr(keras_pep, name) is not None
    with pytest.raises(AttributeError, match="'keras_pep' has no attribute"):
        keras_pep.nothing  # noqa: B018


def test_command_says_which_extra_it_needs():
    code = (
        "import sys; sys.modules['click'] = None\n"
        "from keras_pep.lab import main; main()"
    )
    done = python("-c", code, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "Error: click is not installed. The command needs an extra: "
        'pip install "keras-pep[train]".\n'
    )


# Where private attributes of Keras and TensorFlow may be used, with reasons.
DRAWERS = {"_keras_compat.py", "_tf_kernels.py"}
# Files that still have some, to be cleared.
UNCLEARED = {
    *("distribution/replicas.py", "serving/raw.py", "serving/signatures.py"),
}


def library():
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE)
        if name.parts[0] not in ("lab", "tfrs"):
            yield str(name), ast.parse(path.read_text())


def private(name):
    return name.startswith("_") and not name.endswith("__")


def own_names(tree):
    """Names that a file gives to functions, classes and its own attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and getattr(node.value, "id", None) in ("self", "cls")
        ):
            yield node.attr


def names_asked_for(tree):
    """Attributes that a file reads, by a dot or by `getattr`, and modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, "id", None) in (
            "getattr",
            "hasattr",
            "setattr",
        ):
            name = node.args[1]
            yield name.value if isinstance(name, ast.Constant) else ""
        elif isinstance(node, ast.ImportFrom):
            yield from (f"_{x}" for x in private_modules(node.module))
        elif isinstance(node, ast.Import):
            for each in node.names:
                yield from (f"_{x}" for x in private_modules(each.name))


def private_modules(name):
    found = ("keras.src", "tensorflow.python", "tf_keras.src")
    return [x for x in found if f"{name}.".startswith(f"{x}.")]


def test_private_parts_of_keras_are_in_drawers():
    files = dict(library())
    ours = {
        name
        for path, tree in files.items()
        if path not in DRAWERS
        for name in own_names(tree)
    }
    found = {}
    for path, tree in files.items():
        foreign = {x for x in names_asked_for(tree) if private(x)} - ours
        foreign -= {"_getframe", "_initializing"}  # of Python
        if foreign and path not in DRAWERS | UNCLEARED:
            found[path] = foreign
    assert found == {}


def test_private_parts_are_found():
    tree = ast.parse(
        "from tensorflow.python.ops import x\n"
        "model._parts = 0\n"
        "getattr(model, '_layers')\n"
        "self._own = keras.models._find(0)"
    )
    found = {x for x in names_asked_for(tree) if private(x)}
    assert found - {*own_names(tree)} == {
        *("_tensorflow.python", "_parts", "_layers", "_find")
    }


def test_the_library_says_nothing_by_default():
    """Warnings neither, which Python would print without a handler."""
    code = (
        "import logging, keras_pep\n"
        "logging.getLogger('keras_pep.lab.run').warning('to know')"
    )
    done = python("-c", code)
    assert (done.stdout, done.stderr) == ("", "")


FIRST = """
import os, sys
import jax, numpy  # not loaded again in each child

for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        __import__(name)
        import keras
        if "keras_pep.layers" in sys.modules:
            keras.saving.get_registered_object("keras_pep>FM").__name__
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, name
print(len(sys.argv) - 1)
"""


@pytest.mark.slow
def test_any_module_can_be_imported_first():
    """By whoever has not imported Keras before."""
    pytest.importorskip("jax")
    names = [
        *("layers", "models", "optimizers", "pruning", "callbacks", "metrics"),
        *("thresholds", "layers.pruned_embedding", "layers.lookup", "sparse"),
        *("_tf_kernels", "distribution", "pruning.ticket", "models.fm"),
    ]
    modules = [f"keras_pep.{name}" for name in names]
    assert run_on("jax", "-W", "ignore", "-c", FIRST, *modules) == len(names)
