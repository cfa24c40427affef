"""Public names that are imported when they are first used (PEP 562)."""

import importlib.abc
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def attach(
    module: str, names: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make `__getattr__` and `__dir__` of a module with lazy names.

    Args:
        module: Name of the module.
        names: For each public name, the module that defines it; a submodule is
            defined by itself.
    """

    def get(name: str) -> Any:
        source = names.get(name)
        if source is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        found = importlib.import_module(source)
        return found if source == f"{module}.{name}" else getattr(found, name)

    return get, lambda: sorted(names)


def register() -> None:
    """Import what a saved file may name, once Keras is there."""
    packages = ("layers", "models", "optimizers")
    import_after("keras", [f"keras_pep.{name}" for name in packages])


def import_after(module: str, others: Sequence[str]) -> None:
    """Import modules as soon as another one has been imported.

    Keras knows the classes of a file to load only if they are registered. This
    registers ours where Keras is in use, and does not load Keras where it is
    not.

    Args:
        module: The module to wait for; it may have been imported already.
        others: Names of the modules to import then.
    """
    if module in sys.modules:
        for other in others:
            importlib.import_module(other)
    else:
        sys.meta_path.insert(0, _ImportAfter(module, others))


class _ImportAfter(importlib.abc.MetaPathFinder):
    """Finds a module as the other finders do, and adds what follows it."""

    def __init__(self, module: str, others: Sequence[str]) -> None:
        self.module = module
        self.others = others

    def find_spec(
        self, fullname: str, path: Any = None, target: Any = None
    ) -> ModuleSpec | None:
        """Find the module, once."""
        if fullname != self.module:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            # A module of ours that imports it is itself not complete yet; the
            # package it is of imports the others at its end.
            if not _is_importing(__name__.partition(".")[0]):
                import_after(self.module, self.others)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _is_importing(package: str) -> bool:
    """Tell whether a module of a package is being imported just now."""
    return any(
        getattr(getattr(module, "__spec__", None), "_initializing", False)
        for name, module in [*sys.modules.items()]
        if name.startswith(f"{package}.")
    )
