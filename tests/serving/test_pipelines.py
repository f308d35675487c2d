"""Pipelines as users call them, around an attached model."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TextIteratorStreamer, pipeline

from fastav_plugin import FastAVCache, FastAVConfig, attach, detach
from fastav_plugin.lab.testbed.model import MODEL_PATH
from fastav_plugin.lab.testbed.words import CHAT_TEMPLATE, build_tokenizer
from fastav_plugin.report import PruningReport
from fastav_plugin.tokens import Modality
from tests.serving.messages import CLIP, Parts
from tests.support.cache_names import passing
from tests.support.checkpoints import save_llava
from tests.support.model_types import reads_video, require_sound_files, require_sound_pipelines
from tests.support.small_models import qwen2

# Older releases of transformers decode pictures with torchvision, which warns of it since 0.29.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The image decoding and encoding capabilities of TorchVision:DeprecationWarning"
)

TASKS = ("image-text-to-text", "any-to-any")
#: Longer than the trained model's answers of one word.
LENGTH = {"min_new_tokens": 8, "max_new_tokens": 8}
RULE = {"video": "first 16 tokens", "audio": "first 10 tokens", "image": "first 4 tokens"}
COLOUR = "Which colour is the circle?"
SOUND = "Which sound is heard?"

Message = dict[str, Any]


@dataclass
class Pipe:
    """A pipeline around an attached model, and what its generate() calls reported."""

    run: Any
    config: FastAVConfig
    reports: list[PruningReport | None] = field(default_factory=list)

    @classmethod
    def of(cls, task: str, model: str, **settings: Any) -> Pipe:
        if task == "any-to-any":
            require_sound_pipelines()
        make: Any = pipeline
        run = make(task, model=model, dtype=torch.float32, device="cpu")
        config = FastAVConfig.for_model(
            run.model, "fastav+divprune", global_rule=RULE, min_media_tokens=1, **settings
        )
        pipe = cls(run, config)
        pipe.attach()
        return pipe

    def attach(self) -> None:
        attach(self.run.model, self.config, on_report=self.reports.append)

    def tokens(self, chat: Any, **settings: Any) -> list[list[int]]:
        """New and old token ids that the pipeline returns for a chat, or for several."""
        found = self.run(text=chat, return_tensors=True, generate_kwargs=dict(LENGTH), **settings)
        flat = found if isinstance(found[0], dict) else [one for many in found for one in many]
        return [one["generated_token_ids"].tolist() for one in flat]

    def generate(self, chat: Any, past: FastAVCache | None = None, **settings: Any) -> Any:
        """The same by generate(), which gives the pipeline's model no chance to exchange."""
        inputs = self.run.processor.apply_chat_template(
            chat, add_generation_prompt=True, tokenize=True, return_dict=True, **settings
        )
        return self.run.model.generate(**inputs, **LENGTH, **passing(past)).tolist()

    def expect(self, chat: Any, **settings: Any) -> list[list[int]]:
        """By generate() with an explicit FastAVCache, which must prune."""
        past = FastAVCache(self.config)
        found = self.generate(chat, past, return_tensors="pt", **settings)
        assert past.report().reason is None
        return [list(map(int, row)) for row in found]


@pytest.fixture(scope="module", params=TASKS)
def omni(request: pytest.FixtureRequest) -> Pipe:
    return Pipe.of(request.param, str(MODEL_PATH), audio_keep_ratio=0.5)


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Pipe:
    folder = tmp_path_factory.mktemp("llava")
    torch.manual_seed(0)
    save_llava(folder, initializer_range=0.3)
    return Pipe.of("image-text-to-text", str(folder))


def user(*parts: Message, text: str) -> Message:
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}


def picture(parts: Parts) -> Message:
    return {"type": "image", "url": str(parts.picture_file)}


def sound(parts: Parts) -> Message:
    require_sound_files()
    return {"type": "audio", "path": str(parts.sound_file)}


def film(parts: Parts) -> Message:
    frames = torch.from_numpy(parts.frames).permute(0, 3, 1, 2)  # [T, 3, H, W]
    return {"type": "video", "video": frames}


#: Frames in a message are sampled already; those of a file are not.
SAMPLED = {"processor_kwargs": {"videos_kwargs": {"do_sample_frames": False}}}
CHATS: dict[str, Callable[[Parts], Message]] = {
    "picture": lambda parts: user(picture(parts), text=COLOUR),
    "two pictures": lambda parts: user(picture(parts), picture(parts), text=COLOUR),
    "sound": lambda parts: user(sound(parts), text=SOUND),
    "picture and sound": lambda parts: user(picture(parts), sound(parts), text=SOUND),
    "film and sound": lambda parts: user(film(parts), sound(parts), text=COLOUR),
}


@pytest.mark.parametrize("name", CHATS)
def test_a_chat_is_pruned_as_by_generate(omni: Pipe, parts: Parts, name: str) -> None:
    chat = [CHATS[name](parts)]
    settings: dict[str, Any] = SAMPLED if name == "film and sound" else {}
    expected = omni.expect(chat, **settings)
    omni.reports.clear()
    assert omni.tokens(chat, **settings) == expected
    (report,) = omni.reports
    assert report is not None and report.reason is None and report.flops_ratio < 1


def test_detach_makes_a_stock_pipeline_of_it(omni: Pipe, parts: Parts) -> None:
    chats = [[CHATS[name](parts)] for name in ("picture and sound", "two pictures", "sound")]
    pruned = [omni.tokens(chat) for chat in chats]
    detach(omni.run.model)
    omni.reports.clear()
    stock = [omni.tokens(chat) for chat in chats]
    assert stock == [omni.generate(chat, return_tensors="pt") for chat in chats]
    assert stock != pruned
    assert omni.reports == []
    omni.attach()
    assert [omni.tokens(chat) for chat in chats] == pruned


def test_a_chat_of_several_turns(omni: Pipe, parts: Parts) -> None:
    """The pipeline sends the whole chat each turn, so each turn is a prompt like any other."""
    chat = [user(picture(parts), text=COLOUR)]
    media = ({"image"}, {"image", "audio"}, {"image", "audio"})
    later = (user(sound(parts), text=SOUND), user(text="Which shapes?"))
    for turn, kinds in enumerate(media):
        expected = omni.expect(chat)
        omni.reports.clear()
        answer = omni.run(text=chat, generate_kwargs=dict(LENGTH))[0]["generated_text"]
        ids = omni.run.tokenizer(answer[-1]["content"])["input_ids"]
        assert ids == [i for i in expected[0][-8:] if i in ids]
        (report,) = omni.reports
        assert report is not None and set(report.modality_per_layer) == kinds | {"text"}
        if turn < 2:
            chat = [*answer, later[turn]]


def test_a_stream(omni: Pipe, parts: Parts) -> None:
    chat = [CHATS["picture and sound"](parts)]
    streamer: Any = TextIteratorStreamer(omni.run.tokenizer, skip_prompt=True, timeout=60)
    settings = {**LENGTH, "streamer": streamer}
    thread = threading.Thread(target=omni.run, kwargs={"text": chat, "generate_kwargs": settings})
    thread.start()
    words = "".join(streamer)
    thread.join()
    assert words.split() == omni.run.tokenizer.decode(omni.expect(chat)[0][-8:]).split()


def test_prompts_and_files_without_a_chat(omni: Pipe, parts: Parts) -> None:
    """A list of prompts is one batch of one generate()."""
    turn = "<|im_start|>user <|vision_bos|><|IMAGE|><|vision_eos|>{}<|im_end|><|im_start|>assistant"
    prompts = [turn.format(text) for text in (COLOUR, "Which shape is visible?", "yes")]
    files = [str(parts.picture_file)] * len(prompts)
    found = omni.run(images=files, text=prompts, return_tensors=True, generate_kwargs=dict(LENGTH))
    for one, text in zip(found, (COLOUR, "Which shape is visible?", "yes"), strict=True):
        alone = omni.expect([user(picture(parts), text=text)])[0]
        assert one["generated_token_ids"][-8:].tolist() == alone[-8:]


def test_a_batch_of_chats(llava: Pipe, parts: Parts) -> None:
    """Prompts of three lengths side by side, padded by the pipeline."""
    chats = [
        [user(picture(parts), text=COLOUR)],
        [user(picture(parts), text="yes")],
        [user(picture(parts), picture(parts), text="Which shape is visible?")],
    ]
    llava.run.tokenizer.padding_side = "left"
    alone = [llava.expect(chat)[0][-8:] for chat in chats]
    assert alone[0] != alone[1]
    llava.reports.clear()
    found = llava.tokens(chats[:2], batch_size=2) + llava.tokens(chats[2:])
    assert [ids[-8:] for ids in found] == alone
    assert len(llava.reports) == 2, "the first two went together"


@pytest.fixture
def text_pipe() -> Iterator[tuple[Any, list[PruningReport | None]]]:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    model = qwen2()
    reports: list[PruningReport | None] = []
    attach(model, FastAVConfig.for_model(model), on_report=reports.append)
    yield pipeline("text-generation", model=model, tokenizer=tokenizer), reports
    detach(model)


def test_text_pipelines(text_pipe: tuple[Any, list[PruningReport | None]]) -> None:
    run, reports = text_pipe
    chat = [{"role": "user", "content": COLOUR}]
    prompts = [COLOUR, "is the sound heard and the picture visible", "yes"]

    def everything() -> list[Any]:
        settings = {**LENGTH, "return_tensors": True, "do_sample": False}
        return [run(chat, **settings), run(prompts, batch_size=3, **settings)]

    found = everything()
    reasons = [report.reason for report in reports if report is not None]
    assert reasons == ["the prompt holds no media tokens"] * 2
    detach(run.model)
    assert everything() == found, "a text-only prompt is the stock model's"


# The processor hands torch tensors to numpy.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_video_from_a_file(omni: Pipe, parts: Parts) -> None:
    if not reads_video():
        pytest.skip("torchcodec finds no FFmpeg here, so transformers reads no video files")

    def chat() -> list[Message]:  # anew: older releases write the sound of a video into it
        return [user({"type": "video", "path": str(CLIP)}, text=COLOUR)]

    every: list[dict[str, Any]] = [{}, {"load_audio_from_video": True}]
    for settings in every:
        expected = omni.expect(chat(), **settings)
        omni.reports.clear()
        assert omni.tokens(chat(), **settings) == expected
        (report,) = omni.reports
        assert report is not None
        kinds = (Modality.VIDEO, Modality.AUDIO)
        media = [int(report.token_map.mask(kind).sum()) for kind in kinds]
        assert media == [128, 200 if settings else 0]


@pytest.mark.slow
def test_video_from_a_file_in_a_process_with_ffmpeg(
    video_environment: dict[str, str] | None,
) -> None:
    """The test above, where the dynamic linker was told about PyAV's FFmpeg."""
    if video_environment is None:
        pytest.skip("no FFmpeg here")
    arguments = ("-q", "-p", "no:cacheprovider", "-k", "test_video_from_a_file and not process")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments, __file__],
        cwd=Path(__file__).parents[2],
        env={**os.environ, **video_environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 passed" in done.stdout, done.stdout[-3000:]
