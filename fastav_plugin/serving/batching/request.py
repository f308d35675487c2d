"""One request: what is asked, what was answered so far, and how the next token is chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessorList, StoppingCriteriaList
from transformers.generation.configuration_utils import GenerationMode
from transformers.generation.stopping_criteria import EosTokenCriteria, MaxLengthCriteria

from fastav_plugin.config import FastAVConfig
from fastav_plugin.report import PruningReport

#: Fields of a GenerationConfig whose work a batch does not do, with the values that ask for none.
_NOT_BATCHED: dict[str, tuple[Any, ...]] = {
    "num_return_sequences": (None, 1),
    "guidance_scale": (None, 1),
    "prefill_chunk_size": (None,),
    "cache_implementation": (None,),
    "use_cache": (None, True),
    "token_healing": (None, False),
}
_BATCHED = (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE)


def is_batched(generation_config: Any) -> bool:
    """Whether a batch can answer with these settings of generate()."""
    return generation_config.get_generation_mode() in _BATCHED and all(
        getattr(generation_config, name, None) in allowed for name, allowed in _NOT_BATCHED.items()
    )


@dataclass(eq=False)
class Request:
    """What one generate() would be given, and who hears of its answer.

    Attributes:
        inputs: of the processor, one prompt.
        generation_config: for which `is_batched` holds.
        tokenizer: of the stop strings.
        config: what is pruned.
        streamer: as generate() takes it; its `put` may raise to end the request. None for none.
        on_report: called before `on_end` with the report of a request that was prefilled.
        on_end: called once, with the answer's tokens, int64 [n], or the error that ended it.
        seed: of the draws; None for one of its own.
        on_prefill: called with the report of the prompt before its first token; None for nobody.
    """

    inputs: Mapping[str, Any]
    generation_config: Any
    tokenizer: Any
    config: FastAVConfig
    streamer: Any
    on_report: Callable[[PruningReport], None]
    on_end: Callable[[Tensor | None, Exception | None], None]
    seed: int | None = None
    on_prefill: Callable[[PruningReport], None] | None = None


class Row:
    """A request that was prefilled.

    Args:
        request: what is asked.
        prompt: int64 [1, T].
        processors: as generate() made them.
        criteria: as generate() made them.
        sampled: whether tokens are drawn.

    Attributes:
        report: of the prompt.
    """

    report: PruningReport

    def __init__(
        self,
        request: Request,
        prompt: Tensor,
        processors: LogitsProcessorList,
        criteria: StoppingCriteriaList,
        sampled: bool,
    ) -> None:
        self.request = request
        self.ids = prompt
        self._prompt = prompt.shape[1]
        self._processors, self._sampled = processors, sampled
        # The two that nearly every request has, and nothing else, cost no call each step.
        self._longest = min(
            (each.max_length for each in criteria if type(each) is MaxLengthCriteria), default=None
        )
        ends = [each.eos_token_id for each in criteria if type(each) is EosTokenCriteria]
        self._ends = {int(token) for each in ends for token in each}
        usual = (MaxLengthCriteria, EosTokenCriteria)
        self._others = StoppingCriteriaList(each for each in criteria if type(each) not in usual)
        self._generator: torch.Generator | None = None
        if sampled:
            self._generator = torch.Generator(prompt.device)
            if request.seed is None:
                self._generator.seed()
            else:
                self._generator.manual_seed(request.seed)

    @property
    def answer(self) -> Tensor:
        """The new tokens, int64 [n]."""
        return self.ids[0, self._prompt :]

    @property
    def is_plain(self) -> bool:
        """Whether the likeliest token of the logits as they are comes next."""
        return not self._sampled and not self._processors

    def choose(self, logits: Tensor) -> int:
        """The next token; logits are float [1, vocabulary]."""
        upcast: Any = logits.to(torch.float32, copy=True)
        scores = self._processors(self.ids, upcast)  # type: ignore[arg-type]
        if not self._sampled:
            return int(scores.argmax(dim=-1))
        drawn = torch.multinomial(scores.softmax(dim=-1), 1, generator=self._generator)
        return int(drawn)

    def end(self, error: Exception | None) -> None:
        """Hand on the report, and the answer or the error that ended it."""
        answer = self.answer
        # The last token of an answer is in no cache.
        self.request.on_report(self.report.after(max(0, len(answer) - 1)))
        self.request.on_end(None if error is not None else answer, error)

    def add(self, token: int) -> bool:
        """Append a token and say it; whether it was the last one.

        Raises:
            Exception: the streamer's, whose client has gone.
        """
        new = torch.tensor([[token]], dtype=self.ids.dtype, device=self.ids.device)
        self.ids = torch.cat([self.ids, new], dim=1)
        if self.request.streamer is not None:
            self.request.streamer.put(torch.tensor([token]))
        if token in self._ends or (self._longest and self.ids.shape[1] >= self._longest):
            return True
        return bool(self._others and self._others(self.ids, None).all())
