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


#: Of the hand-written matrix; a test compares them with it.
FAMILIES = (
    *("omni_image", "omni_video", "omni_audio", "omni_interleaved", "omni_all"),
    *("llava", "llava_next", "llava_onevision", "llava_next_video"),
    *("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "gemma3", "qwen2_text", "llama_text"),
)

GROUPS: Mapping[str, Group] = {
    "upstream": Group(
        paths=("tests/upstream",),
        quick=("tests/upstream",),
    ),
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
        quick=(
            "tests/test_decoding_modes.py::test_beam_search_returns_several",
            "tests/test_decoding_modes.py::test_streaming",
            "tests/test_decoding_modes.py::test_a_cache_of_the_callers_stays_dense",
            "tests/test_streams.py",
        ),
    ),
    "families": Group(
        paths=("tests/test_families.py", "tests/test_other_families.py", "tests/test_matrix.py"),
        quick=tuple(
            f"tests/test_families.py::test_pruned_equals_masked_dense[{name}-{case}]"
            for name in FAMILIES
            for case in ("sdpa-ragged-fastav+divprune", "eager-single-fastav")
        ),
    ),
    "attention": Group(
        paths=(
            "tests/test_flex_attention.py",
            "tests/test_precisions.py",
            "tests/test_prompt_rollout.py",
            "tests/test_quantized_weights.py",
            "tests/test_renumbered.py",
            "tests/test_scoring.py",
            "tests/test_sliding.py",
        ),
        quick=("tests/test_precisions.py",),
    ),
    "turns": Group(
        paths=("tests/test_conversations.py", "tests/test_turns.py", "tests/test_turns_apart.py"),
        quick=("tests/test_conversations.py",),
    ),
    "own models": Group(
        paths=("tests/video_salmonn2", "tests/videollama2"),
        quick=("tests/video_salmonn2/test_auto_classes.py",),
    ),
    "serve": Group(
        paths=("tests/serve",),
        quick=("tests/serve/test_attaching.py",),
    ),
}
