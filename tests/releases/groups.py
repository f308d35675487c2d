"""The test groups that every release of the window must pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """Tests that are counted together.

    Attributes:
        paths: all its tests, files or folders below the checkout.
        quick: its part of the quick subset: paths or test functions within `paths`.
    """

    paths: tuple[str, ...]
    quick: tuple[str, ...]

    def holds(self, module: str) -> bool:
        """Whether a test module, such as "tests.unit.test_cache", belongs to it."""
        names = [path.removesuffix(".py").replace("/", ".") for path in self.paths]
        return any(f"{module}.".startswith(f"{name}.") for name in names)


GROUPS: Mapping[str, Group] = {
    "unit": Group(
        paths=("tests/unit",),
        quick=("tests/unit/test_cache.py", "tests/unit/test_forward.py"),
    ),
    "life cycle": Group(
        paths=("tests/life_cycle",),
        quick=("tests/life_cycle/test_attach.py",),
    ),
    "decoding modes": Group(
        paths=(
            "tests/test_decoding_modes.py",
            "tests/test_direct_calls.py",
            "tests/test_drafts.py",
            "tests/test_generate_settings.py",
            "tests/test_prompt_shapes.py",
            "tests/test_stacking.py",
            "tests/test_streams.py",
        ),
        quick=("tests/test_decoding_modes.py",),
    ),
    "families": Group(
        paths=("tests/test_families.py", "tests/test_other_families.py", "tests/test_matrix.py"),
        quick=("tests/test_families.py::test_pruned_equals_masked_dense",),
    ),
    "turns": Group(
        paths=("tests/test_conversations.py", "tests/test_turns.py", "tests/test_turns_apart.py"),
        quick=("tests/test_turns.py",),
    ),
    "serve": Group(
        paths=("tests/serve",),
        quick=("tests/serve/test_attaching.py",),
    ),
}
