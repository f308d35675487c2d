"""The media of a chat, read for a processor as `fastav generate` reads them: tensor by tensor."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor

from fastav_plugin import ConfigError, UnsupportedError, register_models
from fastav_plugin.lab.testbed.model import MODEL_PATH
from fastav_plugin.lab.testbed.samples import SAMPLES
from fastav_plugin.media.inputs import prepare_files, prepare_prompt, read_media
from fastav_plugin.serving.media.policy import MediaError, MediaPolicy
from fastav_plugin.serving.messages import MessageMedia
from fastav_plugin.serving.server_policy import server_policy
from tests.model_overrides.video_salmonn2 import tiny
from tests.model_overrides.videollama2.checkpoint import write_official
from tests.model_overrides.videollama2.clips import write_heard, write_mute
from tests.support.checkpoints import save_llava

CLIP = SAMPLES[0].path
QUESTION = "Which sound is heard?"
#: What the server passes with each chat.
STOCK = {
    "add_generation_prompt": True,
    "tools": None,
    "return_tensors": "pt",
    "return_dict": True,
    "tokenize": True,
}
VIDEO = {"num_frames": 32, "load_audio_from_video": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of each kind, below one folder."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "clip.mp4").write_bytes(CLIP.read_bytes())
    write_mute(folder / "mute.mp4", 3)
    write_heard(folder / "long.mp4", 20)
    colours = np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)
    upright = Image.fromarray(colours)
    upright.save(folder / "picture.png")
    turned = Image.Exif()
    turned[274] = 6
    upright.save(folder / "phone.jpg", exif=turned)
    upright.resize((90, 1)).save(folder / "line.png")
    (folder / "broken.mp4").write_bytes(CLIP.read_bytes()[:5000])
    return folder


@pytest.fixture
def media(folder: Path) -> Iterator[MessageMedia]:
    media = MessageMedia(server_policy(folder))
    yield media
    media.close()


@cache
def omni() -> Any:
    processors: Any = AutoProcessor
    return processors.from_pretrained(MODEL_PATH)


def user(*blocks: dict[str, Any], text: str = QUESTION) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [*blocks, {"type": "text", "text": text}]}]


def block(kind: str, url: str) -> dict[str, Any]:
    return {"type": kind, "url": url}


def data(path: Path, kind: str) -> str:
    return f"data:{kind}/any;base64,{base64.b64encode(path.read_bytes()).decode()}"


def same(found: Any, wanted: Any) -> None:
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert torch.equal(torch.as_tensor(found[name]), torch.as_tensor(value)), name


def media_tokens(processor: Any) -> dict[str, int]:
    """The placeholder of each kind; a processor of transformers 5.19 has them by name alone."""
    kinds = ("image", "video", "audio")
    names = [getattr(processor, f"{kind}_token") for kind in kinds]
    return dict(zip(kinds, processor.tokenizer.convert_tokens_to_ids(names), strict=True))


#: Files of a prompt, in the order in which `fastav generate` places them.
PROMPTS: dict[str, dict[str, Any]] = {
    "picture": {"images": ["picture.png"]},
    "picture on its side": {"images": ["phone.jpg"]},
    "two pictures": {"images": ["picture.png", "phone.jpg"]},
    "picture of one line": {"images": ["line.png"]},
    "clip": {"video": "clip.mp4"},
    "clip without sound": {"video": "mute.mp4"},
    "long clip": {"video": "long.mp4"},
    "sound": {"audio": "clip.mp4"},
    "picture and clip": {"images": ["picture.png"], "video": "clip.mp4"},
    "picture and sound": {"images": ["picture.png"], "audio": "clip.mp4"},
    "words": {},
}


def chat_of(folder: Path, images: Any = (), **files: str) -> list[dict[str, Any]]:
    blocks = [block("image", name) for name in images]
    return user(*blocks, *(block(kind, name) for kind, name in files.items()))


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_is_that_of_generate(media: MessageMedia, folder: Path, name: str) -> None:
    files = PROMPTS[name]
    paths: dict[str, Any] = {kind: None for kind in ("video", "audio")}
    paths |= {kind: folder / file for kind, file in files.items() if kind != "images"}
    images = [folder / file for file in files.get("images", ())]
    processor = omni()
    read = read_media(images=images, **paths, max_frames=32)
    wanted = prepare_prompt(processor, read, QUESTION)
    media.wrap(processor, None)
    chat = chat_of(folder, **files)
    found = processor.apply_chat_template(chat, **STOCK, **(VIDEO if "video" in files else {}))
    same(found, wanted)
    if name == "clip":
        ids = wanted["input_ids"].tolist()[0]
        assert ids.count(media_tokens(processor)["video"]) == 128, "as in the demo"
    chat = [{**chat[0], "content": [_inline(part, folder) for part in chat[0]["content"]]}]
    found = processor.apply_chat_template(chat, **STOCK, **(VIDEO if "video" in files else {}))
    same(found, wanted)


def _inline(part: dict[str, Any], folder: Path) -> dict[str, Any]:
    if part["type"] == "text":
        return part
    return block(part["type"], data(folder / part["url"], part["type"]))


def test_each_medium_of_a_chat_is_where_it_was_named(media: MessageMedia, folder: Path) -> None:
    """Several clips, pictures and sounds over three turns; one clip has no sound."""
    processor = omni()
    media.wrap(processor, None)
    named = [
        *user(
            block("video", "mute.mp4"), block("image", "picture.png"), block("audio", "clip.mp4")
        ),
        {"role": "assistant", "content": "the circle"},
        *user(block("video", "clip.mp4"), block("video", "long.mp4")),
    ]
    found = processor.apply_chat_template(named, **STOCK, **VIDEO)
    ids = found["input_ids"][0].tolist()
    kinds = {token: kind for kind, token in media_tokens(processor).items()}
    order = [kinds[token] for token in ids if token in kinds]
    runs = [kind for index, kind in enumerate(order) if not index or order[index - 1] != kind]
    assert runs == ["video", "image", "audio", "video", "audio", "video", "audio"]
    counts = found["video_grid_thw"].tolist()
    assert [grid[0] for grid in counts] == [3, 8, 16]
    parts = [user(block("video", name)) for name in ("mute.mp4", "clip.mp4", "long.mp4")]
    each = [processor.apply_chat_template(part, **STOCK, **VIDEO) for part in parts]
    for name in ("pixel_values_videos", "video_second_per_grid"):
        assert torch.equal(found[name], torch.cat([one[name] for one in each])), name
    assert found["video_second_per_grid"].tolist() == pytest.approx([1, 1, 1.25])


@pytest.mark.parametrize(
    ("asked", "grids"),
    [
        ({}, 16),
        ({"num_frames": 32}, 16),
        ({"num_frames": 8}, 4),
        ({"fps": 1}, 10),
        ({"fps": 0.5, "num_frames": 4}, 2),
        ({"fps": 30}, 16),
        ({"videos_kwargs": {"fps": 1}}, 10),
        ({"processor_kwargs": {"num_frames": 6}}, 3),
        ({"num_frames": 4, "do_sample_frames": True}, 2),
    ],
)
def test_frames_are_those_that_the_request_asks_for(
    media: MessageMedia, asked: dict[str, Any], grids: int
) -> None:
    """20 s: two frames a second unless asked, at most so many; two frames make a grid."""
    processor = omni()
    media.wrap(processor, None)
    asked = {"num_frames": 32, **asked}
    found = processor.apply_chat_template(user(block("video", "long.mp4")), **STOCK, **asked)
    assert found["video_grid_thw"].tolist()[0][0] == grids
    assert "input_features" not in found, "nobody asked for the sound"


@pytest.mark.parametrize(
    "asked",
    [{"fps": -1}, {"num_frames": 0}, {"num_frames": 1, "fps": 1}, {"num_frames": "many"}]
    + [{"num_frames": 4.5}, {"fps": 1e9}, {"fps": True}],
)
def test_frames_that_cannot_be_taken(media: MessageMedia, asked: dict[str, Any]) -> None:
    processor = omni()
    media.wrap(processor, None)
    with pytest.raises(ConfigError, match="`num_frames` of at least 2"):
        processor.apply_chat_template(user(block("video", "long.mp4")), **STOCK, **asked)


def test_a_processors_own_rate(media: MessageMedia, monkeypatch: pytest.MonkeyPatch) -> None:
    processor = omni()
    media.wrap(processor, None)
    monkeypatch.setattr(processor.video_processor, "fps", 0.5, raising=False)
    found = processor.apply_chat_template(user(block("video", "long.mp4")), **STOCK, **VIDEO)
    assert found["video_grid_thw"].tolist()[0][0] == 5


def test_bytes_without_an_address(media: MessageMedia, folder: Path) -> None:
    """As transformers takes them, with line breaks or without."""
    processor = omni()
    media.wrap(processor, None)
    wanted = processor.apply_chat_template(user(block("image", "picture.png")), **STOCK)
    packed = base64.encodebytes((folder / "picture.png").read_bytes()).decode()
    for text in (packed, packed.replace("\n", "")):
        same(processor.apply_chat_template(user(block("image", text)), **STOCK), wanted)
    ready = user({"type": "image", "image": Image.open(folder / "picture.png")})
    same(processor.apply_chat_template(ready, **STOCK), wanted)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "outside": (block("image", "/etc/passwd"), "no such file below the media folder"),
    "up": (block("audio", "../clip.mp4"), "no such file below the media folder"),
    "private": (block("image", "http://127.0.0.1:1/a.png"), "not public"),
    "link-local": (block("video", "http://169.254.169.254/latest"), "not public"),
    "scheme": (block("image", "file:///etc/passwd"), "scheme 'file'"),
    "ftp": (block("image", "ftp://example.org/a.png"), "scheme 'ftp'"),
    "broken": (block("video", "broken.mp4"), "video 'broken.mp4' was refused"),
    "no picture": (block("image", "clip.mp4"), "image 'clip.mp4' was refused"),
    "no sound": (block("audio", "mute.mp4"), "no sound"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_named(media: MessageMedia, name: str) -> None:
    named, reason = REFUSED[name]
    processor = omni()
    media.wrap(processor, None)
    with pytest.raises(MediaError, match=reason):
        processor.apply_chat_template(user(named), **STOCK, **VIDEO)


def test_files_are_read_below_a_folder_alone(folder: Path) -> None:
    media = MessageMedia(server_policy())
    processor = omni()
    media.wrap(processor, None)
    try:
        with pytest.raises(MediaError, match="reads no files"):
            processor.apply_chat_template(user(block("image", str(folder / "line.png"))), **STOCK)
    finally:
        media.close()


def test_limits_are_those_of_the_whole_request(folder: Path) -> None:
    processor = omni()
    media = MessageMedia(MediaPolicy(media_dir=folder, max_per_request=2))
    media.wrap(processor, None)
    try:
        with pytest.raises(MediaError, match="more than the 2 media"):
            chat = user(*[block("image", "picture.png")] * 3)
            processor.apply_chat_template(chat, **STOCK)
    finally:
        media.close()


@pytest.mark.parametrize("name", ["images", "videos", "audio", "image", "video"])
@pytest.mark.parametrize("nested", [False, True])
def test_no_medium_goes_past_the_reader(media: MessageMedia, name: str, nested: bool) -> None:
    """transformers would fetch what a request names among the processor's arguments."""
    processor = omni()
    media.wrap(processor, None)
    given: dict[str, Any] = {name: "http://127.0.0.1/"}
    given = {"processor_kwargs": given} if nested else given
    with pytest.raises(ConfigError, match=f"`{name}` is no argument of a chat"):
        processor.apply_chat_template(user(), **STOCK, **given)


def test_a_model_that_takes_pictures_alone(media: MessageMedia, tmp_path: Path) -> None:
    save_llava(tmp_path)
    processors: Any = AutoProcessor
    processor = processors.from_pretrained(tmp_path)
    media.wrap(processor, None)
    found = processor.apply_chat_template(user(block("image", "picture.png")), **STOCK)
    assert found["pixel_values"].shape[0] == 1
    for kind in ("video", "audio"):
        with pytest.raises(UnsupportedError, match=f"LlavaProcessor takes no {kind}, only image"):
            processor.apply_chat_template(user(block(kind, "clip.mp4")), **STOCK)


def test_processors_are_as_they_were(folder: Path) -> None:
    processor = omni()
    before = dict(vars(processor))
    media = MessageMedia(server_policy(folder))
    media.wrap(processor, None)
    wrapped = processor.apply_chat_template
    media.wrap(processor, None)
    assert processor.apply_chat_template is wrapped
    text = processor.apply_chat_template(user(block("image", "/no/such/file")), tokenize=False)
    assert text.count("<|IMAGE|>") == 1, "nothing is read for the text alone"
    media.wrap(processor.tokenizer, None)
    assert "apply_chat_template" not in vars(processor.tokenizer), "it takes no media"
    media.close()
    assert vars(processor) == before


@cache
def own(name: str) -> tuple[Any, Any]:
    """A processor of this package, and the config of its model."""
    register_models()
    return tiny.processor(name), tiny.CONFIGS[name]()


@pytest.mark.parametrize("name", tiny.PROCESSORS)
@pytest.mark.parametrize(
    "files", [{"video": "clip.mp4"}, {"video": "mute.mp4"}, {"audio": "clip.mp4"}]
)
def test_video_salmonn2_samples_files_itself(
    media: MessageMedia, folder: Path, name: str, files: dict[str, str]
) -> None:
    processor, config = own(name)
    check_own(media, folder, processor, config, files)


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    from fastav_plugin.model_overrides.videollama2 import VideoLlama2Config, VideoLlama2Processor

    register_models()
    folder = write_official(tmp_path_factory.mktemp("official"))
    config: Any = VideoLlama2Config
    return VideoLlama2Processor.from_pretrained(folder), config.from_pretrained(folder)


# The array of a picture belongs to Pillow.
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable:UserWarning")
@pytest.mark.parametrize(
    "files",
    [{"video": "clip.mp4"}, {"video": "mute.mp4"}, {"audio": "clip.mp4"}, {"image": "phone.jpg"}],
)
def test_videollama2_samples_files_itself(
    media: MessageMedia, folder: Path, official: tuple[Any, Any], files: dict[str, str]
) -> None:
    check_own(media, folder, *official, files)


def check_own(
    media: MessageMedia, folder: Path, processor: Any, config: Any, files: dict[str, str]
) -> None:
    paths = {kind: folder / file for kind, file in files.items()}
    images = [paths.pop("image")] if "image" in paths else []
    given: dict[str, Any] = {"video": None, "audio": None, **paths}
    media.wrap(processor, config)
    wanted = prepare_files(processor, QUESTION, images=images, **given)
    chat = user(*(block(kind, file) for kind, file in files.items()))
    same(processor.apply_chat_template(chat, **STOCK, **VIDEO), wanted)
    few = prepare_files(processor, QUESTION, images=images, frames=4, **given)
    same(processor.apply_chat_template(chat, **STOCK, **{**VIDEO, "num_frames": 4}), few)
    refused = user(block("video", "broken.mp4"))
    with pytest.raises(MediaError, match="broken.mp4"):
        processor.apply_chat_template(refused, **STOCK, **VIDEO)
