"""transformers' own server with an attached model, asked by the real openai client."""

from __future__ import annotations

import base64
import io
import json
import signal
import wave
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import torch
from PIL import Image
from transformers import AutoModelForMultimodalLM, AutoProcessor, GenerationConfig

from fastav_plugin import FastAVCache, FastAVConfig
from fastav_plugin.lab.testbed.model import MODEL_PATH
from fastav_plugin.media.clips import read_video
from fastav_plugin.media.files import Source
from fastav_plugin.media.inputs import video_arguments
from fastav_plugin.media.pictures import read_image
from fastav_plugin.media.sound import read_sound
from fastav_plugin.serving.account import describe
from tests.serving.conftest import Server
from tests.serving.messages import SETTINGS, Parts, ask, noise, user
from tests.support.cache_names import passing

COLOUR = "Which colour is the circle?"
SOUND = "Which sound is heard?"
RULE = {"video": "first 16 tokens", "audio": "first 10 tokens", "image": "first 4 tokens"}
PRUNING: dict[str, Any] = {"global_rule": RULE, "audio_keep_ratio": 0.5, "min_media_tokens": 1}


@cache
def local() -> tuple[Any, Any]:
    """The model and the processor that the server has, in this process and not attached."""
    models: Any = AutoModelForMultimodalLM
    processors: Any = AutoProcessor
    model = models.from_pretrained(MODEL_PATH, dtype=torch.float32)
    return model.eval(), processors.from_pretrained(MODEL_PATH)


def read(messages: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """The inputs of generate(), of media that the reader of `fastav generate` read from files."""
    processor = local()[1]
    found: dict[str, list[Any]] = {"image": [], "video": [], "audio": []}
    turns = []
    for message in messages:
        parts = message["content"]
        parts = [{"type": "text", "text": parts}] if isinstance(parts, str) else parts
        content = []
        for part in parts:
            content.append(part)
            kind = part["type"].removesuffix("_url").removeprefix("input_")
            if kind == "text":
                continue
            content[-1] = {"type": kind}
            medium = source(part, folder)
            if kind == "image":
                found[kind].append(Image.fromarray(read_image(medium)))
            elif kind == "audio":
                found[kind] += read_sound(medium)
            else:
                clip = read_video(medium)
                found[kind].append((clip.frames, clip.fps))
                if clip.waveform is not None:
                    content.append({"type": "audio"})
                    found["audio"].append(clip.waveform)
        turns.append({"role": message["role"], "content": content})
    text = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    arguments: dict[str, Any] = {"text": [text], "return_tensors": "pt"}
    if found["image"]:
        arguments["images"] = found["image"]
    if found["video"]:
        arguments |= video_arguments(processor, found["video"])
    if found["audio"]:
        arguments["audio"] = found["audio"]
    return dict(processor(**arguments))


def source(part: dict[str, Any], folder: Path) -> Source:
    """The file that a part names, or the bytes that it holds."""
    given = part[part["type"]]
    if "data" in given:
        return Source(base64.b64decode(given["data"]))
    head, comma, data = given["url"].partition(",")
    return Source(base64.b64decode(data) if comma else folder / head)


def generate(
    messages: list[dict[str, Any]],
    folder: Path,
    past: FastAVCache | None = None,
    **settings: Any,
) -> str:
    """What generate() answers here."""
    model, processor = local()
    inputs = read(messages, folder)
    generation: Any = GenerationConfig
    out = model.generate(
        **inputs, generation_config=generation(**{**SETTINGS, **settings}), **passing(past)
    )
    answer = out[0, inputs["input_ids"].shape[1] :]
    return str(processor.decode(answer, skip_special_tokens=True))


def expect(messages: list[dict[str, Any]], folder: Path, **settings: Any) -> tuple[str, str]:
    """The answer of generate() with an explicit FastAVCache, and the line it is worth."""
    past = FastAVCache(FastAVConfig.for_model(local()[0], "fastav+divprune", **PRUNING))
    return generate(messages, folder, past, **settings), describe(past.report())


def prompts(parts: Parts) -> dict[str, list[dict[str, Any]]]:
    return {
        "picture": [user(parts.picture, text=COLOUR)],
        "picture from a file": [user(parts.picture_from_file, text=COLOUR)],
        "two pictures": [user(parts.picture, noise(1), text=COLOUR)],
        "sound": [user(parts.sound, text=SOUND)],
        "sound from a file": [user(parts.sound_from_file, text=SOUND)],
        "picture and sound": [user(parts.picture, parts.sound, text=SOUND)],
        "video": [user(parts.inline_video, text=SOUND)],
        "video from a file": [user(parts.video_from_file, text=SOUND)],
        "two videos": [user(parts.video_from_file, parts.inline_video, text=SOUND)],
        "all": [user(parts.picture, parts.video_from_file, parts.sound, text=SOUND)],
        "words": [user(text=COLOUR)],
    }


NAMES = (
    *("picture", "picture from a file", "two pictures"),
    *("sound", "sound from a file", "picture and sound", "words"),
    *("video", "video from a file", "two videos", "all"),
)


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_those_of_generate(
    client: openai.OpenAI, server: Server, parts: Parts, name: str
) -> None:
    messages = prompts(parts)[name]
    expected, line = expect(messages, parts.folder)
    before = len(server.lines())
    assert ask(client, server.model, messages) == expected
    assert ask(client, server.model, messages, stream=True) == expected
    assert server.lines(before, 2) == [line, line]
    assert ("unpruned, because the prompt holds no media" in line) == (name == "words")


def test_the_answers_are_not_those_of_the_dense_model(parts: Parts) -> None:
    """Else the tests above would say nothing."""
    media = {name: found for name, found in prompts(parts).items() if name != "words"}
    assert any(
        expect(found, parts.folder)[0] != generate(found, parts.folder) for found in media.values()
    )


def test_a_video_is_as_many_tokens_as_the_model_was_trained_with(
    client: openai.OpenAI, server: Server, parts: Parts
) -> None:
    """Two pictures a second, each of the checkpoint's size, and the sound after them."""
    before = len(server.lines())
    for frames, video in ((None, 128), (6, 48)):
        asked = None if frames is None else {"num_frames": frames}
        messages = [user(parts.video_from_file, text=SOUND)]
        ask(client, server.model, messages, chat_template_kwargs=asked)
        (line,) = server.lines(before, 1)
        before += 1
        assert line.startswith(f"13 text, {video} video, 200 audio tokens; "), line


def test_a_chat_of_three_turns(client: openai.OpenAI, server: Server, parts: Parts) -> None:
    """The client sends the whole chat each turn; the server keeps no rows between them."""
    messages = [user(parts.picture, text=COLOUR)]
    for question in (user(parts.sound, text=SOUND), user(text="Which shapes?"), None):
        expected, line = expect(messages, parts.folder)
        before = len(server.lines())
        assert ask(client, server.model, messages) == expected
        assert server.lines(before, 1) == [line]
        if question is not None:
            messages = [*messages, {"role": "assistant", "content": expected}, question]


def test_many_at_once(client: openai.OpenAI, server: Server, parts: Parts) -> None:
    """All media and words, whole and streamed: each answer is the one it gets alone."""
    chats = [*prompts(parts).values(), [user(noise(2), text=COLOUR)]]
    before = len(server.lines())
    alone = [ask(client, server.model, messages) for messages in chats]
    lines = server.lines(before, len(chats))
    before += len(chats)

    def send(index: int) -> str:
        with server.client() as own:
            return ask(own, server.model, chats[index], stream=index % 2 == 1)

    with ThreadPoolExecutor(len(chats)) as pool:
        answers = list(pool.map(send, range(len(chats))))
    assert answers == alone
    assert sorted(server.lines(before, len(chats))) == sorted(lines)


def test_draws_are_those_of_the_seed(client: openai.OpenAI, server: Server, parts: Parts) -> None:
    """A request draws the same tokens alone and among others, streamed or not."""
    messages = [user(parts.picture, parts.sound, text=SOUND)]
    drawn: dict[str, Any] = {"do_sample": True, "temperature": 3.0, "top_k": 0}
    alone = [ask(client, server.model, messages, seed=seed, **drawn) for seed in (5, 6)]

    def send(number: int) -> str:
        with server.client() as own:
            return ask(own, server.model, messages, stream=number < 3, seed=5 + number % 2, **drawn)

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(send, range(6))) == alone * 3
    assert alone[0] != alone[1]


def test_what_no_batch_does_is_answered_among_others(
    client: openai.OpenAI, server: Server, parts: Parts
) -> None:
    messages = [user(parts.picture, parts.sound, text=SOUND)]
    beams: dict[str, Any] = {"num_beams": 2}
    past = FastAVCache(FastAVConfig.for_model(local()[0], "fastav+divprune", **PRUNING))
    expected = [generate(messages, parts.folder, past, **beams), expect(messages, parts.folder)[0]]

    def send(number: int) -> str:
        with server.client() as own:
            return ask(own, server.model, messages, **({} if number % 2 else beams))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(send, range(4))) == expected * 2


def test_the_rest_of_the_server_is_as_it_was(server: Server, client: openai.OpenAI) -> None:
    health = httpx2.get(f"{server.url}/health")
    assert (health.status_code, health.json()) == (200, {"status": "ok"})
    listed = {model.id for model in client.models.list().data}
    assert listed <= {server.model}, "the hub's cache is empty; 5.24 lists what is loaded"
    routes = set(httpx2.get(f"{server.url}/openapi.json").json()["paths"])
    assert routes >= {"/health", "/v1/models", "/v1/chat/completions", "/v1/responses"}


@pytest.mark.parametrize("stream", [False, True])
def test_the_other_ways_to_ask(server: Server, client: openai.OpenAI, stream: bool) -> None:
    """/v1/completions and /v1/responses reach the same attached model."""
    before = len(server.lines())
    text: Any = client.completions.create(
        model=server.model, prompt="which colour", max_tokens=3, stream=stream
    )
    chunks = text if stream else [text]
    assert "".join(chunk.choices[0].text for chunk in chunks)
    answer: Any = client.responses.create(
        model=server.model, input="which colour", max_output_tokens=3, stream=stream
    )
    if stream:
        answer = [event.response for event in answer if event.type == "response.completed"][0]
    assert answer.output_text
    lines = server.lines(before, 2)
    assert len(lines) == 2
    assert all("unpruned, because the prompt holds no media" in line for line in lines)


BAD: dict[str, tuple[dict[str, Any], int]] = {
    "no messages": ({"messages": None}, 400),
    "a part without its picture": ({"messages": [user({"type": "image_url"}, text=COLOUR)]}, 400),
    "no tokens": ({"max_tokens": 0}, 400),
    "settings that are no text": ({"generation_config": {"use_cache": True}}, 400),
    "another model": ({"model": "another"}, 400),
    "unknown field": ({"temprature": 1}, 422),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_does_no_harm(server: Server, parts: Parts, name: str) -> None:
    body, status = BAD[name]
    good = [user(parts.picture, text=COLOUR)]
    before = len(server.lines())
    whole = {"model": server.model, "messages": good, "max_tokens": 2, **body}
    found = httpx2.post(f"{server.url}/v1/chat/completions", json=whole, timeout=60)
    assert found.status_code == status, found.text
    assert httpx2.get(f"{server.url}/health").status_code == 200
    with server.client() as own:
        assert ask(own, server.model, good) == expect(good, parts.folder)[0]
    assert len(server.lines(before, 1)) == 1, "nothing was generated for the bad one"


def silence() -> str:
    """A sound in which nothing is heard, as base64."""
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setparams((1, 2, 16000, 0, "NONE", ""))
        written.writeframes(bytes(32000))
    return base64.b64encode(file.getvalue()).decode()


def test_a_request_is_one_line_of_each_log(server: Server, parts: Parts) -> None:
    """Its handler is called twice, and a remark about its medium names it."""
    before = len(server.log.read_text())
    with server.client() as own:
        ask(own, server.model, [user(parts.picture, parts.inline_video, text=COLOUR)])
    data = {"data": silence(), "format": "wav"}
    messages = [user({"type": "input_audio", "input_audio": data}, text=SOUND)]
    body = {"model": server.model, "messages": messages, "max_tokens": 2}
    url = f"{server.url}/v1/chat/completions"
    found = httpx2.post(url, json=body, headers={"x-request-id": "number 7"}, timeout=60)
    assert found.status_code == 200, found.text
    server.lines(2, 1)
    log = server.log.read_text()[before:]
    assert log.count("[Request received]") == 2
    assert "Kwargs passed to" not in log
    assert "WARNING:     fastav: request number 7: the medium: " in log


def test_a_client_that_hangs_up(server: Server, parts: Parts) -> None:
    messages = [user(parts.picture, text=COLOUR)]
    before = len(server.lines())
    body = {"model": server.model, "messages": messages, "stream": True}
    body["generation_config"] = json.dumps({**SETTINGS, "max_new_tokens": 3000})
    url = f"{server.url}/v1/chat/completions"
    with httpx2.stream("POST", url, json=body, timeout=60) as answer:
        words = (line for line in answer.iter_lines() if '"content":"' in line)
        assert next(words)
    with server.client() as own:
        assert ask(own, server.model, messages) == expect(messages, parts.folder)[0]
    broken, whole = server.lines(before, 2)
    assert broken.split(";")[:2] == whole.split(";")[:2], "both were pruned alike"


def test_sigterm_ends_it(server: Server) -> None:
    """The last test of this file: the status is that of a process which obeyed the signal."""
    assert server.stop(signal.SIGTERM) == -signal.SIGTERM
    log = server.log.read_text()
    assert "Application shutdown complete" in log
    assert "Traceback" not in log.rpartition("Shutting down")[2]
