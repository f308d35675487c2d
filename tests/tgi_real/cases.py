"""Which models are served, what they are asked, and what `generate()` answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from fastav_plugin import FastAVCache, FastAVConfig, register_models
from tests.support.cache_names import passing
from tests.tgi_real.checkpoints import Files
from tests.tgi_real.media_inputs import clip_and_sound, clips, pictures, videollama2_inputs
from tests.tgi_real.requests import Ask, Medium

hub: Any = transformers
NOTHING = "which colour is the circle square red green shape sounds heard"
TURN, END = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"


def words(count: int, start: int = 0) -> str:
    """A text of so many words of the small vocabulary."""
    found = NOTHING.split()
    return " ".join(found[(start + number) % len(found)] for number in range(count))


def pictures_asked(files: Files) -> list[Ask]:
    """Pictures in chunks and in references, before, after and between texts; and none."""
    one, wide, tall, small = (Medium("image", path) for path in files.pictures)
    return [
        Ask((words(5), one, words(9, 2)), 9, chunks=True),
        Ask((words(5), one, words(9, 2)), 9),
        Ask((wide, words(12, 4)), 6, chunks=True),
        Ask((words(3, 1), tall, words(2), small, words(4, 3)), 12, chunks=True),
        Ask((words(14, 5),), 7),
        Ask((words(30, 3), small), 3),
        Ask((words(2, 6), wide, words(21)), 1, chunks=True),
    ]


def everything_asked(files: Files) -> list[Ask]:
    """Pictures, clips with their sound left out, sounds, and all of them in one prompt."""
    picture = Medium("image", files.pictures[0])
    clip, other, _ = (Medium("video", path) for path in files.clips)
    sound = Medium("audio", files.sound)
    return [
        Ask((TURN, clip, "which colour is the circle" + END), 8),
        Ask((TURN, sound, "which sound is heard" + END), 6),
        Ask((TURN, picture, "which shape is visible" + END), 5, chunks=True),
        Ask((TURN, other, sound, "do sound and picture match" + END), 9),
        Ask((TURN + "which colour is red" + END,), 7),
        Ask((TURN, sound, picture, clip, "is circle visible" + END), 12),
    ]


def one_clip_asked(files: Files) -> list[Ask]:
    """One medium per prompt, in turns that the client wrote."""
    clip, other, _ = (Medium("video", path) for path in files.clips)
    sound, picture = Medium("audio", files.sound), Medium("image", files.pictures[1])
    return [
        Ask((TURN, clip, "\nWhich colour has the shape?" + END), 8),
        Ask((TURN, sound, "\nWhat is heard?" + END), 5),
        Ask((TURN, picture, "\nWhat is seen?" + END), 6),
        Ask((TURN, other, "\nDo sound and picture match?" + END), 12),
        Ask((TURN + "Which colour is the shape?" + END,), 7),
    ]


def clips_asked(files: Files) -> list[Ask]:
    """Clips with sound, and sound alone, as video-SALMONN 2 takes them."""
    return [ask for ask in one_clip_asked(files) if all(m.kind != "image" for m in ask.media)]


@dataclass(frozen=True)
class Case:
    """One model.

    Attributes:
        name: of its checkpoint.
        asked: requests about the media files.
        placeholders: what stands for a medium in the text that its processor takes.
        rule: its global rule.
        inputs: makes the processor's other arguments from an ask's media.
    """

    name: str
    asked: Callable[[Files], list[Ask]]
    placeholders: dict[str, str] = field(default_factory=dict)
    rule: Any = None
    inputs: Callable[[Any, list[Medium]], dict[str, Any]] = lambda processor, media: {}


PICTURE = {"image": "<|IMAGE|>"}
#: As the chat templates of the Qwen families have them.
SEEN = {
    "image": "<|vision_bos|><|IMAGE|><|vision_eos|>",
    "video": "<|vision_bos|><|VIDEO|><|vision_eos|>",
}
HEARD = {"audio": "<|audio_bos|><|AUDIO|><|audio_eos|>"}
TAGS = {kind: f"<{kind}>" for kind in ("image", "video", "audio")}

CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case("opt", lambda files: [Ask((words(n, n),), n % 7 + 2) for n in range(3, 21, 3)]),
        Case("llava", pictures_asked, PICTURE, "below 90", pictures),
        Case("llava_next", pictures_asked, PICTURE, "below 200", pictures),
        Case("qwen2_5_vl", pictures_asked, SEEN, "below 12", pictures),
        Case("qwen2_5_omni", everything_asked, SEEN | HEARD, "below 60", clips),
        Case("videollama2", one_clip_asked, TAGS, None, videollama2_inputs),
        Case("video_salmonn2", clips_asked, TAGS, None, clip_and_sound),
    )
}


class Reference:
    """The same model in this process, one request at a time through `generate()`.

    Args:
        case: the model.
        folder: of its checkpoint.
    """

    def __init__(self, case: Case, folder: Path) -> None:
        register_models()
        self.case = case
        self.model = self._head(folder).from_pretrained(folder, dtype=torch.float32).eval()
        # Nothing ends an answer but its length, in the server as well.
        self.model.generation_config = hub.GenerationConfig(pad_token_id=0)
        kind = hub.AutoTokenizer if case.name == "opt" else hub.AutoProcessor
        self.processor = kind.from_pretrained(folder)

    @staticmethod
    def _head(folder: Path) -> Any:
        config = hub.AutoConfig.from_pretrained(folder)
        if config.model_type == "qwen2_5_omni_thinker":
            return hub.Qwen2_5OmniThinkerForConditionalGeneration
        text = config.model_type == "opt"
        return hub.AutoModelForCausalLM if text else hub.AutoModelForMultimodalLM

    def config(self, method: str) -> FastAVConfig:
        """What the server is started with; every prompt with media is pruned."""
        rule = {} if self.case.rule is None else {"global_rule": self.case.rule}
        if "fastav" not in method:
            rule = {}
        return FastAVConfig.for_model(self.model, method=method, min_media_tokens=1, **rule)

    def inputs(self, ask: Ask) -> dict[str, Any]:
        """Model inputs from the family's own processor."""
        text = "".join(
            piece if isinstance(piece, str) else self.case.placeholders[piece.kind]
            for piece in ask.pieces
        )
        given = self.case.inputs(self.processor, ask.media)
        found = self.processor(**{"text": [text], "return_tensors": "pt", **given})
        return {name: value for name, value in found.items() if name != "token_type_ids"}

    def tokens(self, ask: Ask, config: FastAVConfig | None) -> list[int]:
        """What the model generates for one request alone."""
        inputs = self.inputs(ask)
        cache = {} if config is None else passing(FastAVCache(config))
        out = self.model.generate(**inputs, **cache, max_new_tokens=ask.new_tokens, do_sample=False)
        found: list[int] = out[0, inputs["input_ids"].shape[1] :].tolist()
        return found
