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
        """Whether a test module, such as "tests.test_cache", belongs to it."""
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
        paths=(
            *("tests/functional", "tests/hooks", "tests/layers", "tests/media", "tests/planning"),
            *("tests/test_cache.py", "tests/test_config.py", "tests/test_errors.py"),
            *("tests/test_installation.py", "tests/test_report.py", "tests/test_tokens.py"),
            *("tests/pruning/test_prefill.py", "tests/pruning/test_prompt_checks.py"),
            *("tests/pruning/test_prompt.py", "tests/pruning/test_request.py"),
            *("tests/model_overrides/test_registry.py", "tests/model_overrides/own_models"),
        ),
        quick=("tests/test_cache.py", "tests/pruning/test_prefill.py"),
    ),
    "life cycle": Group(
        paths=(
            *("tests/behaviour/life_cycle", "tests/binding", "tests/compatibility"),
            *("tests/test_attach.py", "tests/model_overrides/test_paligemma.py"),
            "tests/model_overrides/test_qwen_omni.py",
            "tests/model_overrides/test_qwen3_omni.py",
            "tests/model_overrides/test_refused_models.py",
        ),
        quick=("tests/test_attach.py",),
    ),
    "decoding modes": Group(
        paths=(
            "tests/behaviour/decoding/test_decoding_modes.py",
            "tests/behaviour/decoding/test_direct_calls.py",
            "tests/behaviour/decoding/test_drafts.py",
            "tests/behaviour/decoding/test_generate_settings.py",
            "tests/behaviour/decoding/test_prompt_shapes.py",
            "tests/pruning/test_batching.py",
            "tests/behaviour/decoding/test_streams.py",
        ),
        quick=(
            "tests/behaviour/decoding/test_decoding_modes.py::test_beam_search_returns_several",
            "tests/behaviour/decoding/test_decoding_modes.py::test_streaming",
            "tests/behaviour/decoding/test_decoding_modes.py::test_a_cache_of_the_callers_stays_dense",
            "tests/behaviour/decoding/test_streams.py",
        ),
    ),
    "families": Group(
        paths=(
            "tests/behaviour/families/test_families.py",
            "tests/behaviour/families/test_other_families.py",
            "tests/behaviour/families/test_matrix.py",
            "tests/behaviour/families/test_schedule.py",
        ),
        quick=tuple(
            f"tests/behaviour/families/test_families.py::test_pruned_equals_masked_dense[{name}-{case}]"
            for name in FAMILIES
            for case in ("sdpa-ragged-fastav+divprune", "eager-single-fastav")
        ),
    ),
    "attention": Group(
        paths=(
            "tests/behaviour/attention/test_flash_attention.py",
            "tests/behaviour/attention/test_flex_attention.py",
            "tests/behaviour/attention/test_precisions.py",
            "tests/pruning/test_rollout_view.py",
            "tests/behaviour/attention/test_quantized_weights.py",
            "tests/behaviour/attention/test_renumbered.py",
            "tests/pruning/test_observer.py",
            "tests/behaviour/attention/test_sliding.py",
        ),
        quick=("tests/behaviour/attention/test_precisions.py",),
    ),
    "turns": Group(
        paths=(
            "tests/behaviour/decoding/test_conversations.py",
            "tests/behaviour/decoding/test_turns.py",
            "tests/behaviour/decoding/test_turns_apart.py",
        ),
        quick=("tests/behaviour/decoding/test_conversations.py",),
    ),
    "own models": Group(
        paths=("tests/model_overrides/video_salmonn2", "tests/model_overrides/videollama2"),
        quick=("tests/model_overrides/video_salmonn2/test_auto_classes.py",),
    ),
    # Examples say `cache=`; the tests run them with the name that the release has for it.
    "pages": Group(
        paths=(
            "tests/pages/test_examples.py",
            "tests/pages/test_notebook.py",
            "tests/pages/test_python_blocks.py",
            "tests/lab/testbed/test_model_card.py",
        ),
        quick=(
            "tests/pages/test_python_blocks.py::test_blocks_of_a_page[README.md]",
            "tests/pages/test_python_blocks.py::test_the_first_example_prunes",
        ),
    ),
    "serve": Group(
        paths=("tests/serving",),
        quick=("tests/serving/test_attaching.py",),
    ),
}
