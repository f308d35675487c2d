"""What the prompts of one task took, in words and in figures."""

from collections import Counter
from collections.abc import Sequence
from statistics import mean

from fastav_plugin.display.units import percent
from fastav_plugin.evaluation.lmms_eval.pruned_generate import PromptCost


def sentence(costs: Sequence[PromptCost]) -> str:
    """Means over prompts, in one line."""
    if not costs:
        return "no prompts."
    found = figures(costs)
    return (
        f"{len(costs)} prompts, mean tokens {found['fastav_prompt_tokens']:.1f} -> "
        f"{found['fastav_kept_tokens']:.1f} in the last layer, "
        f"FLOPs {percent(found['fastav_flops_ratio'])} of dense."
    )


def unpruned(costs: Sequence[PromptCost]) -> str:
    """How many prompts lost nothing, and why; "" if all lost something."""
    reasons = Counter(cost.reason for cost in costs if cost.reason is not None)
    counts = "; ".join(f"{count} because {reason}" for reason, count in reasons.items())
    return f"{sum(reasons.values())} of {len(costs)} prompts unpruned: {counts}." if counts else ""


def figures(costs: Sequence[PromptCost]) -> dict[str, float]:
    """Means over prompts by name, for lmms-eval's file of results; {} without prompts."""
    if not costs:
        return {}
    return {
        "fastav_flops_ratio": mean(cost.flops_ratio for cost in costs),
        "fastav_prompt_tokens": mean(cost.tokens for cost in costs),
        "fastav_kept_tokens": mean(cost.kept for cost in costs),
        "fastav_unpruned_prompts": mean(cost.reason is not None for cost in costs),
    }
