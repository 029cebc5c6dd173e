"""What may import what, beyond the levels that `lint-imports` keeps."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fedart_nb

PACKAGE = Path(fedart_nb.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
UNSAFE = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
HEAVY = ("torch", "diffusers", "ipywidgets", "transformers", "peft", "opacus", "matplotlib", "IPython")


def imports_of(path: Path) -> set[str]:
    """Every dotted name that a module imports, at any depth, `from a import b` as both `a` and `a.b`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def roots_of(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports_of(path)}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())


@each_module
def test_no_module_pickles(path: Path) -> None:
    assert not roots_of(path) & UNSAFE
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    keywords = {(keyword.arg, ast.unparse(keyword.value)) for call in calls for keyword in call.keywords}
    assert ("allow_pickle", "True") not in keywords
    assert ("weights_only", "False") not in keywords


@each_module
def test_no_module_uses_pyplot(path: Path) -> None:
    assert not imports_of(path) & {"matplotlib.pyplot", "pylab", "matplotlib.pylab"}


@each_module
def test_only_widgets_and_lessons_know_ipywidgets(path: Path) -> None:
    if room_of(path) != "widgets" and "lessons" not in path.parts:
        assert not roots_of(path) & {"ipywidgets", "IPython", "anywidget", "traitlets"}


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("fedart_nb", HEAVY),
        ("fedart_nb.cli", HEAVY),
        ("fedart_nb.art", ("torch", "ipywidgets", "IPython")),
        ("fedart_nb.privacy", ("torch", "opacus", "scipy", "ipywidgets", "IPython", "matplotlib")),
        ("fedart_nb.secagg", ("torch", "ipywidgets", "IPython")),
        ("fedart_nb.crypto.identity", ("torch", "ipywidgets", "IPython")),
        ("fedart_nb.relay", ("torch", "ipywidgets", "IPython", "PIL", "matplotlib")),
        ("fedart_nb.federated", ("torch", "diffusers", "ipywidgets", "IPython", "PIL", "matplotlib")),
        ("fedart_nb.jobs", ("torch", "ipywidgets", "IPython")),
    ],
)
def test_importing_a_light_room_loads_nothing_heavy(module: str, forbidden: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*(name for name in {forbidden!r} if name in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []
