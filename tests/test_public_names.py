"""`__all__` is complete and true in every module (ruff keeps it sorted)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import fedart_nb

PACKAGE = Path(fedart_nb.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__main__.py")


def names_of(node: ast.stmt) -> set[str]:
    """Names that a top-level statement defines here (imports are not definitions)."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Assign(targets=targets):
            return {target.id for target in targets if isinstance(target, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
    return set()


def imports_of(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return set()


def listed_in(body: list[ast.stmt]) -> list[str] | None:
    for node in body:
        if names_of(node) == {"__all__"}:
            return list(ast.literal_eval(node.value))
    return None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_all_lists_exactly_the_public_names(path: Path) -> None:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    defined = set().union(*map(names_of, body))
    listed = listed_in(body)
    public = {name for name in defined if not name.startswith("_")}
    if listed is None:
        assert not public, f"{path.name} defines {sorted(public)} and has no __all__"
        return
    assert len(listed) == len(set(listed)), "a name stands twice"
    assert public <= set(listed), f"missing from __all__: {sorted(public - set(listed))}"
    if path != PACKAGE / "__init__.py":  # its names are lazy: the test below loads them
        known = defined.union(*map(imports_of, body))
        assert set(listed) <= known, f"listed, but not there: {sorted(set(listed) - known)}"


@pytest.mark.parametrize("name", fedart_nb.__all__)
def test_a_public_name_loads_and_is_listed_by_dir(name: str) -> None:
    value = getattr(fedart_nb, name)
    assert value is getattr(fedart_nb, name)
    assert name in dir(fedart_nb)
    if isinstance(value, type):
        assert value.__name__ == name


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(AttributeError, match=r"'artset'; it has .*ArtSet"):
        _ = fedart_nb.artset
