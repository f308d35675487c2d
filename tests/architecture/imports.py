"""Which module imports which, read from the source, and the order they must keep."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "fastav_plugin"

#: Rooms from the top floor down: folders, and modules that stand beside them. A module imports its
#: own room and lower floors. "" is the package's face, which users import.
FLOORS = (
    "cli",
    "lab",
    "calibration model_overrides.tgi",
    "evaluation",
    "analysis serving",
    "",
    "attach compatibility",
    "cache",
    "binding planning",
    "pruning",
    "hooks layers model_overrides rollout",
    "config media report",
    "calibration_file flops functional tokens upstream",
    "errors installation",
)
_FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms.split(" ")}

#: A room that nothing but one other imports, whatever the floors say.
CLOSED = {"lab": "cli"}

#: Rooms that are symlinks in a checkout and mapped in setup.cfg.
ROOMS = ("hooks", "model_overrides")


def modules(root: Path) -> dict[str, Path]:
    """Every module of a checkout by its name below the package, e.g. "hooks.base"."""
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root / PACKAGE).with_suffix("").parts
        if parts[0] not in ROOMS:
            found[_name(parts)] = path
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            found[_name(path.relative_to(root).with_suffix("").parts)] = path
    return found


def _name(parts: tuple[str, ...]) -> str:
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(name: str) -> str | None:
    """The room of a module: the longest prefix of its name on a floor; None if there is none."""
    parts = name.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in _FLOOR_OF), None)


def imports(name: str, path: Path, known: set[str]) -> Iterator[tuple[str, int]]:
    """Names below the package that one module imports, anywhere in it, with the line.

    Imports for type checkers only do not run and do not count.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and "TYPE_CHECKING" in ast.unparse(test.test)
        for statement in test.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) not in skipped:
            for full in _full_names(node, name, path, known):
                if full == PACKAGE or full.startswith(PACKAGE + "."):
                    yield full[len(PACKAGE) + 1 :], node.lineno  # type: ignore[attr-defined]


def _full_names(node: ast.AST, name: str, path: Path, known: set[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            here = [PACKAGE, *(name.split(".") if name else [])]
            up = node.level - (path.name == "__init__.py")
            base = ".".join([*here[: len(here) - up], *([node.module] if node.module else [])])
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            yield inner if inner[len(PACKAGE) + 1 :] in known else base
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
        ("import_module", "__import__")
    ):
        for argument in node.args[:1]:
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield argument.value


def graph(root: Path) -> dict[str, list[tuple[str, int]]]:
    """What every module of a checkout imports from the package."""
    found = modules(root)
    return {
        name: [edge for edge in imports(name, path, set(found)) if edge[0] != name]
        for name, path in found.items()
    }


def violations(root: Path) -> list[str]:
    """Imports that do not go down, modules outside the rooms, and circles."""
    edges = graph(root)
    wrong = [f"{name} is in no room" for name in edges if room(name) is None]
    for name, targets in edges.items():
        for target, line in targets:
            here, there = room(name), room(target)
            if here is None or there is None or here == there:
                continue
            if _FLOOR_OF[there] <= _FLOOR_OF[here] or CLOSED.get(there, here) != here:
                wrong.append(f"{name}:{line} imports {target or PACKAGE}, which is not below it")
    return wrong + [f"circle: {' -> '.join(circle)}" for circle in circles(edges)]


def circles(edges: dict[str, list[tuple[str, int]]]) -> list[list[str]]:
    """Circles of imports; a package's own __init__ may import its modules and they each other."""
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
