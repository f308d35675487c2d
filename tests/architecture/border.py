"""Names of transformers and torch that only `upstream/` may use, found in the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOM = "upstream"

#: Names without an underscore that are no documented API all the same, or were renamed.
MOVING = frozenset(
    "past_key_values candidate_length position_embeddings visual_pos_masks "
    "deepstack_visual_embeds".split()
)

#: Functions that look a name up, and which of their arguments may hold it.
LOOK_UPS = {"attrgetter": 0, "import_module": 0, "__import__": 0} | dict.fromkeys(
    ("getattr", "hasattr", "setattr", "delattr"), 1
)

#: Methods that models define for transformers, which finds them by these names.
DEFINED_FOR_TRANSFORMERS = frozenset({"_init_weights", "_prepare_position_ids_for_generation"})

#: Documented methods of named tuples.
OF_NAMED_TUPLES = frozenset({"_asdict", "_fields", "_make", "_replace"})

#: Modules in which a name of these belongs to something else.
ELSEWHERE = {
    # Of Text Generation Inference: the cache of a batch, and the ends of an answer.
    "past_key_values": ("model_overrides.tgi.batch", "model_overrides.tgi.causal_lm"),
    "_eos_token_ids": ("model_overrides.tgi.loading",),
}


def own_names(sources: list[ast.Module]) -> set[str]:
    """Everything that the package defines: functions, attributes of self, class attributes."""
    found: set[str] = set()
    for tree in sources:
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                    found.add(node.attr)
    return found


def foreign_names(name: str, tree: ast.Module, own: set[str]) -> Iterator[tuple[str, int]]:
    """Private or moving names of other packages that one module uses, with the line."""
    for node in ast.walk(tree):
        for used in _used(node):
            private = used.startswith("_") and not used.startswith("__")
            foreign = private and used not in own | DEFINED_FOR_TRANSFORMERS | OF_NAMED_TUPLES
            if (used in MOVING or foreign) and name not in ELSEWHERE.get(used, ()):
                yield used, getattr(node, "lineno", 0)


def _used(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.keyword) and node.arg:
        yield node.arg
    elif isinstance(node, ast.arg) and node.arg in MOVING:
        yield node.arg
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        if node.value in MOVING:
            yield node.value
    elif isinstance(node, ast.Call):
        first = LOOK_UPS.get(ast.unparse(node.func).rpartition(".")[2])
        for argument in [] if first is None else node.args[first:]:
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield from argument.value.split(".")
    elif isinstance(node, ast.Import):
        for alias in node.names:
            yield from alias.name.split(".")
    elif isinstance(node, ast.ImportFrom):
        yield from (node.module or "").split(".")
        yield from (alias.name for alias in node.names)


def violations(modules: dict[str, Path]) -> list[str]:
    """Uses of such names outside the room, as "module:line name"."""
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in modules.items()}
    own = own_names([tree for name, tree in trees.items() if name.split(".")[0] != ROOM])
    return [
        f"{name}:{line} {used}"
        for name, tree in trees.items()
        if name.split(".")[0] != ROOM
        for used, line in foreign_names(name, tree, own)
    ]
