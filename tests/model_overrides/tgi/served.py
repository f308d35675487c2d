"""A model as a shard serves it, and requests as the router sends them."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from fastav_plugin import FastAVCache, FastAVConfig
from fastav_plugin.model_overrides.tgi.loading import Rank
from fastav_plugin.model_overrides.tgi.models import get_model
from tests.model_overrides.tgi.double import generate_pb2 as pb
from tests.support.cache_names import passing

CLIPS = Path(__file__).parents[3] / "fastav_plugin" / "lab" / "testbed" / "clips"


def picture(seed: int, width: int = 56, height: int = 56) -> bytes:
    """A PNG of noise."""
    draw = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (height, width, 3), generator=draw, dtype=torch.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "PNG")
    return file.getvalue()


def inline(seed: int, *size: int) -> str:
    """A picture in the text."""
    data = base64.b64encode(picture(seed, *size)).decode()
    return f"![](data:image/png;base64,{data})"


def ask(
    number: int, *pieces: str | bytes, new: int = 6, truncate: int = 4000, **changes: Any
) -> pb.Request:
    """A request of texts and pictures (bytes), which come in chunks of their own."""
    chunks = [
        pb.InputChunk(text=piece)
        if isinstance(piece, str)
        else pb.InputChunk(image=pb.Image(piece, "image/png"))
        for piece in pieces
    ]
    return pb.Request(
        id=number,
        input_chunks=pb.Input(chunks),
        truncate=truncate,
        stopping_parameters=pb.StoppingCriteriaParameters(new, ignore_eos_token=True),
        **changes,
    )


@dataclass
class Said:
    """What a request was answered.

    Attributes:
        tokens: ids.
        logprobs: of each.
    """

    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    def add(self, token: int, logprob: float) -> None:
        self.tokens.append(token)
        self.logprobs.append(logprob)

    def check(self, expected: Said, *, whole: bool = True) -> None:
        """Raise unless it is what was expected, or its beginning."""
        count = len(self.tokens)
        assert count == len(expected.tokens) if whole else 0 < count < len(expected.tokens)
        assert self.tokens == expected.tokens[:count]
        found, wanted = torch.tensor(self.logprobs), torch.tensor(expected.logprobs[:count])
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


@dataclass
class Served:
    """One shard's model.

    Attributes:
        model: what `get_model` returned.
        config: how it prunes.
    """

    model: Any
    config: FastAVConfig

    @classmethod
    def load(cls, folder: Path, config: FastAVConfig, place: Path, media: Path = CLIPS) -> Served:
        """Load a checkpoint as a shard does."""
        config.save_pretrained(str(place))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FASTAV_MODEL_OVERRIDE", config.method)
            patch.setenv("FASTAV_CONFIG", str(place))
            patch.setenv("FASTAV_MEDIA_DIR", str(media))
            for name in ("RANK", "WORLD_SIZE"):
                patch.delenv(name, raising=False)
            assert Rank.from_environment() == Rank()
            model = get_model(
                str(folder), [], None, False, None, None, None, None, False, max_input_tokens=4000
            )
        return cls(model, model.loaded.config)

    def batch(self, number: int, *requests: pb.Request) -> Any:
        """What Prefill makes of a batch of requests."""
        message = pb.Batch(number, list(requests), len(requests))
        kind, model = self.model.batch_type, self.model
        return kind.from_pb(message, model.tokenizer, model.dtype, model.device)

    def alone(self, request: pb.Request) -> Said:
        """What generate() says to one request, with a cache of its own."""
        prompt = self.model.batch_type.reader.read(request)
        output = self.model.loaded.head.generate(
            **prompt.inputs,
            **passing(FastAVCache(self.config, _search=False)),
            max_new_tokens=request.stopping_parameters.max_new_tokens,
            do_sample=False,
            # TGI takes such settings from requests, not from a checkpoint.
            repetition_penalty=1.0,
            eos_token_id=None,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )
        said = Said()
        tokens = output.sequences[0, len(prompt.ids) :].tolist()
        for token, logits in zip(tokens, output.logits, strict=True):
            said.add(token, float(logits[0].log_softmax(-1)[token]))
        return said


class Shard:
    """The calls of a shard's service, over its model.

    Attributes:
        said: tokens of each request so far.
        batches: those that are being decoded, by number.
    """

    def __init__(self, served: Served) -> None:
        self.served = served
        self.said: dict[int, Said] = {}
        self.batches: dict[int, Any] = {}

    def prefill(self, number: int, *requests: pb.Request) -> None:
        self._step(self.served.batch(number, *requests))

    def decode(self, *numbers: int) -> None:
        found = [self.batches.pop(number) for number in numbers]
        joined = found[0] if len(found) == 1 else self.served.model.batch_type.concatenate(found)
        self._step(joined)

    def filter(self, number: int, *requests: int) -> None:
        batch = self.batches.pop(number).filter(list(requests))
        self.batches[batch.batch_id] = batch

    def finish(self) -> None:
        """Decode what is left, dropping requests as they end."""
        while self.batches:
            number = next(iter(self.batches))
            batch = self.batches[number]
            going = [
                request.id
                for request, stop in zip(batch.requests, batch.stopping_criterias, strict=True)
                if stop.current_tokens < stop.max_new_tokens
            ]
            self.filter(number, *going)
            self.decode(number)

    def _step(self, batch: Any) -> None:
        generations, following, _ = self.served.model.generate_token(batch)
        for generation in generations:
            said = self.said.setdefault(generation.request_id, Said())
            said.add(generation.token, generation.logprob)
        if following is not None:
            self.batches[following.batch_id] = following

    def kv_bytes(self) -> int:
        """Memory that keys and values take."""
        caches = [batch.past_key_values.cache for batch in self.batches.values()]
        return sum(layer.nbytes for cache in caches for layer in cache.layers)
