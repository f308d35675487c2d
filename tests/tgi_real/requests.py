"""What a client asks for, and how the router of TGI puts it to a shard."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from text_generation_server.pb import generate_pb2 as pb

#: Of every server that the driver starts: what the launcher tells its router.
MAX_INPUT_TOKENS = 2048
MAX_TOTAL_TOKENS = 2176


@dataclass(frozen=True)
class Medium:
    """A file that a request names.

    Attributes:
        kind: "image", "video" or "audio".
        path: of the file, below the media folder of the server.
    """

    kind: str
    path: Path

    def reference(self) -> str:
        """How a request's text names it, by its path below the media folder."""
        if self.kind == "image":
            return f"![]({self.path.name})"
        return f"<{self.kind}>{self.path.name}</{self.kind}>"


@dataclass(frozen=True)
class Ask:
    """One request.

    Attributes:
        pieces: texts and media, in the order of the prompt.
        new_tokens: to generate, however soon the model would stop.
        chunks: pictures travel as image chunks, as for the families the router knows; else all
            media are references in one text chunk.
    """

    pieces: tuple[str | Medium, ...]
    new_tokens: int = 8
    chunks: bool = False

    @property
    def media(self) -> list[Medium]:
        return [piece for piece in self.pieces if isinstance(piece, Medium)]

    def text(self) -> str:
        """The prompt as one text, media as references."""
        return "".join(
            piece if isinstance(piece, str) else piece.reference() for piece in self.pieces
        )

    def input_chunks(self) -> list[Any]:
        if not self.chunks:
            return [pb.InputChunk(text=self.text())]
        found = []
        for piece in self.pieces:
            if isinstance(piece, str):
                found.append(pb.InputChunk(text=piece))
            else:
                image = pb.Image(data=piece.path.read_bytes(), mimetype="image/png")
                found.append(pb.InputChunk(image=image))
        return found

    def message(self, number: int) -> Any:
        """The request as the router sends it: greedy, and on to the last token."""
        return pb.Request(
            id=number,
            inputs=self.text(),
            input_chunks=pb.Input(chunks=self.input_chunks()),
            add_special_tokens=True,
            truncate=MAX_INPUT_TOKENS,
            parameters=greedy(),
            stopping_parameters=pb.StoppingCriteriaParameters(
                max_new_tokens=self.new_tokens, ignore_eos_token=True
            ),
        )


def greedy() -> Any:
    """No sampling and no penalties, with the values that the router sends for them."""
    return pb.NextTokenChooserParameters(
        temperature=1.0, top_k=0, top_p=1.0, typical_p=1.0, repetition_penalty=1.0
    )


def warmup_message(
    max_prefill_tokens: int = 4096, max_input_tokens: int | None = MAX_INPUT_TOKENS
) -> Any:
    """The router's own warm-up: requests that all bear id 0, the first with a small picture.

    Every option of the sampler is on, the text is longer than where it is cut, and log
    probabilities of the prompt are wanted.
    """
    picture = io.BytesIO()
    Image.new("RGB", (20, 20), (200, 30, 30)).save(picture, "JPEG")
    requests: list[Any] = []
    tokens = 0
    while tokens < max_prefill_tokens:
        truncate = min(max_input_tokens or max_prefill_tokens, max_prefill_tokens - tokens)
        chunks = [pb.InputChunk(text="_test " * truncate)]
        if not tokens:
            image = pb.Image(data=picture.getvalue(), mimetype="image/jpeg;base64")
            chunks.append(pb.InputChunk(image=image))
        requests.append(
            pb.Request(
                id=0,
                inputs="_test " * truncate,
                input_chunks=pb.Input(chunks=chunks),
                add_special_tokens=True,
                truncate=truncate,
                parameters=pb.NextTokenChooserParameters(
                    temperature=0.9,
                    top_k=10,
                    top_p=0.9,
                    typical_p=0.9,
                    repetition_penalty=1.2,
                    frequency_penalty=0.1,
                    watermark=True,
                ),
                stopping_parameters=pb.StoppingCriteriaParameters(
                    max_new_tokens=MAX_TOTAL_TOKENS - truncate, ignore_eos_token=True
                ),
                prefill_logprobs=True,
                top_n_tokens=20,
            )
        )
        tokens += truncate
    return pb.WarmupRequest(
        batch=pb.Batch(id=0, requests=requests, size=len(requests), max_tokens=MAX_INPUT_TOKENS),
        max_input_tokens=max_input_tokens,
        max_prefill_tokens=max_prefill_tokens,
        max_total_tokens=MAX_TOTAL_TOKENS,
    )
