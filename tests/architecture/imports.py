"""Which module imports which, read from the source, and the order they must keep."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "fastav_plugin"

#: From the top. A module may import lower tiers, and its own tier where that makes no circle.
#: The longest matching prefix decides; the package itself is what users import.
TIERS: tuple[tuple[str, ...], ...] = (
    ("cli", "__main__", "model_overrides.tgi"),
    ("demo", "demo_picture"),
    ("bench", "evaluate", "calibration", "comparison", "inspection", "visualize", "media")
    + ("evaluation_file", "evaluation_summary", "bootstrap", "own_clip", "serving")
    + ("evaluation_record", "benchmarks", "sample_inputs", "testbed_source")
    + ("bench_clip", "bench_clock", "bench_shapes", "bench_plan", "bench_peers")
    + ("bench_picture", "bench_parts", "conversion", "attention_profile", "papers", "towers")
    + ("calibration_data", "calibration_plan", "checked_search", "fidelity", "rollout_profile"),
    ("testbed",),
    ("",),
    ("attach", "probe"),
    ("cache", "budget"),
    ("pending", "plan"),
    ("binding",),
    ("opening", "mrope", "layer_entry", "stacking"),
    ("state", "refusals"),
    ("prefill", "append", "attention"),
    ("observation",),
    ("alive",),
    ("hooks", "layer_call"),
    ("kv_layer", "model_overrides", "prompt_rollout"),
    ("tokens", "scoring", "rollout", "diversity", "report", "model_identity", "parallel")
    + ("block_mask", "causal", "fingerprint"),
    ("config", "calibration_file", "flops", "decoding", "growing", "tiny_copy", "products")
    + ("diversity_kernel",),
    # What it knows is transformers and torch, and nothing of this package.
    ("upstream",),
    ("errors", "installation"),
)

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


def tier(name: str) -> int | None:
    """Index into TIERS; None for a module that no tier names."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        for index, names in enumerate(TIERS):
            if ".".join(parts[:length]) in names:
                return index
    return None


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
    """Imports that go up, modules without a tier, and circles."""
    edges = graph(root)
    wrong = [f"{name} has no tier" for name in edges if tier(name) is None]
    for name, targets in edges.items():
        own = tier(name)
        for target, line in targets:
            other = tier(target)
            if own is not None and other is not None and other < own:
                wrong.append(f"{name}:{line} imports {target or PACKAGE}, which is above it")
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
