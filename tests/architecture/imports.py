"""Which module imports which, read from the source, and the order they must keep."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "fastav_plugin"

#: Rooms from the top down: folders, and modules beside them. A module imports its own room, and
#: those of lower levels. "" is the package itself, which users import.
LEVELS = (
    "cli",
    "lab",
    "calibration model_overrides.tgi",
    "evaluation",
    "analysis serving",
    "",
    "attach compatibility settings",
    "cache",
    "binding planning",
    "pruning",
    "hooks layers model_overrides rollout",
    "config media report",
    "calibration_file defaults flops functional global_rule hub tokens upstream",
    "display errors installation upcalls",
)
_LEVEL_OF = {room: level for level, rooms in enumerate(LEVELS) for room in rooms.split(" ")}

#: A room that nothing but one other imports, whatever its level.
CLOSED = {"lab": "cli"}

#: Rooms that are symlinks in a checkout and mapped in setup.cfg.
LINKED = ("hooks", "model_overrides")

#: Functions that import what their first argument names.
_IMPORTERS = ("import_module", "__import__")


def modules(root: Path) -> dict[str, Path]:
    """Every module of a checkout by its name below the package, e.g. "hooks.base"."""
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root / PACKAGE).with_suffix("").parts
        if parts[0] not in LINKED:
            found[_name(parts)] = path
    for room in LINKED:
        for path in sorted((root / room).rglob("*.py")):
            found[_name(path.relative_to(root).with_suffix("").parts)] = path
    return found


def _name(parts: tuple[str, ...]) -> str:
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def rooms() -> list[str]:
    """All rooms, from the top level down."""
    return list(_LEVEL_OF)


def room(name: str) -> str | None:
    """The room of a module: the longest prefix of its name in LEVELS; None if there is none."""
    parts = ["cli"] if name == "__main__" else name.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in _LEVEL_OF), None)


def full_names(name: str, path: Path) -> Iterator[tuple[list[str], int]]:
    """What one module imports, anywhere in it and in any way, for type checkers too.

    Args:
        name: of the module, below the package.
        path: its file.

    Yields:
        The full names that one import may mean, the likeliest first: "from a import b" imports
        a.b if that is a module, else a. With the line.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = [PACKAGE, *(name.split(".") if name else [])]
    home = parts if path.name == "__init__.py" else parts[:-1]
    importers = {*_IMPORTERS, *_aliases(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (([alias.name], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute("." * node.level + (node.module or ""), home)
            yield from (([f"{base}.{alias.name}", base], node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            if ast.unparse(node.func).rpartition(".")[2] in importers:
                yield [_absolute(_text(node.args[0], parts, home), home)], node.lineno
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # A table of names that something imports later.
            if node.value.startswith(f"{PACKAGE}.") and " " not in node.value:
                yield [node.value], node.lineno


def _aliases(tree: ast.Module) -> Iterator[str]:
    """Other names that a module gives to the functions that import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (a.asname for a in node.names if a.asname and a.name in _IMPORTERS)


def _absolute(target: str, home: list[str]) -> str:
    """A full name from one that may begin with dots; `home` is the package it stands in."""
    level = len(target) - len(target.lstrip("."))
    if not level:
        return target
    return ".".join([*home[: len(home) - level + 1], *filter(None, [target[level:]])])


def _text(node: ast.expr, parts: list[str], home: list[str]) -> str:
    """The name that an expression gives, as far as it can be read; "" if not at all."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, (ast.JoinedStr, ast.BinOp)):
        pieces = node.values if isinstance(node, ast.JoinedStr) else [node.left, node.right]
        known = ""
        for piece in pieces:
            found = _text(piece, parts, home)
            if not found:
                return known.rpartition(".")[0]
            known += found
        return known
    if isinstance(node, ast.FormattedValue):
        return _text(node.value, parts, home)
    return {"__name__": ".".join(parts), "__package__": ".".join(home)}.get(ast.unparse(node), "")


def graph(root: Path) -> dict[str, list[tuple[str, int]]]:
    """What every module of a checkout imports from the package, by names below it."""
    found = modules(root)
    known = {".".join(filter(None, [PACKAGE, name])): name for name in found}

    def inside(names: list[str]) -> str | None:
        return next((known[name] for name in names if name in known), None)

    return {
        name: [
            (target, line)
            for names, line in full_names(name, path)
            if (target := inside(names)) is not None and target != name
        ]
        for name, path in found.items()
    }


def libraries(name: str, path: Path) -> set[str]:
    """Packages that a module imports."""
    found = {names[-1].split(".")[0] for names, _ in full_names(name, path)}
    return found - {"", PACKAGE}


def violations(root: Path) -> list[str]:
    """Imports that do not go down, modules outside the rooms, and circles."""
    edges = graph(root)
    wrong = [f"{name} is in no room" for name in edges if room(name) is None]
    for name, targets in edges.items():
        for target, line in targets:
            here, there = room(name), room(target)
            if here is None or there is None or here == there:
                continue
            if _LEVEL_OF[there] <= _LEVEL_OF[here] or CLOSED.get(there, here) != here:
                wrong.append(f"{name}:{line} imports {target or PACKAGE}, which is not below it")
    for name, path in modules(root).items():
        wrong += [
            f"{name}:{line} imports {top} by a name of the checkout" for top, line in strays(path)
        ]
    return wrong + [f"circle: {' -> '.join(circle)}" for circle in circles(edges)]


def strays(path: Path) -> Iterator[tuple[str, int]]:
    """Imports of a room, or of the tests, by a name that only a checkout has."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        else:
            continue
        yield from ((n, node.lineno) for n in names if n.split(".")[0] in (*LINKED, "tests"))


def circles(edges: dict[str, list[tuple[str, int]]]) -> list[list[str]]:
    """Circles of imports, each with its first module at both ends."""
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> None:
        if name in trail:
            found.append([*trail[trail.index(name) :], name])
            return
        if name in done:
            return
        for target, _ in edges.get(name, []):
            visit(target, [*trail, name])
        done.add(name)

    for name in edges:
        visit(name, [])
    return found
