"""What `fastav bench` is asked to measure."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError, unknown_name
from fastav_plugin.lab.bench.peers import PEERS
from fastav_plugin.lab.bench.shapes import DTYPES, find_shape
from fastav_plugin.planning.dry_run import PromptSize


@dataclass(frozen=True)
class BenchPlan:
    """What to measure.

    Attributes:
        shape: a name of `shapes.SHAPES`, or the folder or hub id of a checkpoint.
        methods: methods to measure against dense; None for those of the shape.
        overrides: keywords of `FastAVConfig.for_model`; fields go before the shape's, a file or a
            preset instead of them.
        prompt: size of the prompt; None for the shape's.
        lengths: prompt lengths to scale the prompt's media to; empty for the prompt as it is.
        batches: batch sizes.
        dtype: a name of `shapes.DTYPES`.
        attention: attention implementation of every case; None for transformers' choice.
        device: where everything runs.
        repeats: measured rounds.
        warm_up: unmeasured rounds before them.
        new_tokens: tokens made in each run, the first of the prefill and the rest of decoding.
        idle: whether the cases in which the plugin does nothing are measured too.
        peers: whether FastV and DivPrune are measured as their authors' programs run them too.
    """

    shape: str = "qwen2-0.5b"
    methods: Sequence[str] | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    prompt: PromptSize | None = None
    lengths: Sequence[int] = ()
    batches: Sequence[int] = (1,)
    dtype: str = "bfloat16"
    attention: str | None = None
    device: str = "cpu"
    repeats: int = 5
    warm_up: int = 1
    new_tokens: int = 1
    idle: bool = True
    peers: bool = False

    def check(self) -> None:
        """Refuse what cannot be measured, before anything is built.

        Raises:
            ConfigError: unknown shape or dtype, or a wrong setting.
        """
        find_shape(self.shape)
        if self.dtype not in DTYPES:
            raise unknown_name("dtype", self.dtype, DTYPES)
        for _, prompt in self.points():
            prompt.token_map()
        self.configs()

    def configs(self) -> dict[str, FastAVConfig]:
        """The settings to compare, by the name of their method."""
        shape = find_shape(self.shape)
        methods = shape.methods if self.methods is None else self.methods
        whole = {"config", "preset"} & set(self.overrides)
        overrides = {**({} if whole else shape.overrides), **self.overrides}
        config = shape.config()
        return {name: FastAVConfig.for_model(config, method=name, **overrides) for name in methods}

    def points(self) -> list[tuple[int, PromptSize]]:
        """Every batch size with every prompt."""
        prompt = find_shape(self.shape).prompt if self.prompt is None else self.prompt
        prompts = [scale(prompt, length) for length in self.lengths] or [prompt]
        return [(batch, size) for batch in self.batches for size in prompts]

    @property
    def slow_clock(self) -> bool:
        """Whether the clock on the pruner makes the device wait, so that it needs its own run."""
        return not self.device.startswith("cpu")

    @property
    def steps(self) -> int:
        """How often `run_bench` calls its `tick`."""
        names = list(self.configs())
        pruned = len(names) + self.peers * sum(name in PEERS for name in names)
        cases = 1 + 3 * self.idle + pruned
        rounds = self.warm_up + self.repeats
        return 1 + len(self.points()) * (rounds * cases + pruned * self.slow_clock)


def scale(prompt: PromptSize, length: int) -> PromptSize:
    """The prompt with as many tokens of media as make it `length` tokens long, about.

    Raises:
        ConfigError: no media to scale, or no room for any.
    """
    media = prompt.image + prompt.video + prompt.audio
    if not media or length <= prompt.text:
        raise ConfigError(
            f"A prompt of {media} media and {prompt.text} text tokens cannot be made "
            f"{length} tokens long."
        )
    factor = (length - prompt.text) / media
    frames = max(1, round(prompt.frames * factor)) if prompt.frames else 0
    each = prompt.video // prompt.frames if prompt.frames else 0
    return replace(
        prompt,
        image=round(prompt.image * factor),
        video=frames * each if frames else round(prompt.video * factor),
        audio=round(prompt.audio * factor),
        frames=frames,
    )
