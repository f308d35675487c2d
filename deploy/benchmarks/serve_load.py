"""Requests a second of transformers' own server and of `fastav serve`, under the same load.

All servers run at once and are asked in turns, so what else the machine does meets all of them. A
round asks each server the same questions, no two alike; ratios are those of one round, and their
median is printed. Answers must be those that the server beside it gives with the same method.

    python deploy/benchmarks/serve_load.py --users 1,8 --rounds 3

Needs fastav-plugin[serve].
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import io
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import wave
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openai
import torch
from PIL import Image
from transformers import Qwen2_5OmniThinkerForConditionalGeneration, Qwen2VLImageProcessor

from fastav_plugin.lab.bench.clock import machine
from fastav_plugin.lab.testbed.model import MODEL_PATH, build_config, build_processor
from fastav_plugin.lab.testbed.samples import SAMPLES
from fastav_plugin.media.clips import read_clip
from fastav_plugin.media.sound import SAMPLE_RATE

STOCK, ONE_BY_ONE, DENSE, PRUNED = "stock", "pruned, one by one", "batched dense", "batched pruned"
#: Ratios that are printed, by name: of which server to which.
RATIOS = {
    "/ stock": (PRUNED, STOCK),
    "/ batched dense": (PRUNED, DENSE),
    "/ one by one": (PRUNED, ONE_BY_ONE),
}
_EMBEDDED, _DECODER = "embedded", "decoder"
_SIDES = {_EMBEDDED: 112, _DECODER: 756}


@dataclass(frozen=True)
class Load:
    """What every server is asked in one round.

    Attributes:
        users: clients that ask at once, each its next question when the last one is answered.
        questions: of each client.
        tokens: of each answer.
        sound: whether a clip's sound comes with the picture.
        side: pixels of a picture's side.
    """

    users: int
    questions: int
    tokens: int
    sound: bool
    side: int


@dataclass(frozen=True)
class Measured:
    """What one server made of one round.

    Attributes:
        rate: requests a second.
        first: median seconds to the first text.
        answers: texts by client and question.
    """

    rate: float
    first: float
    answers: Mapping[tuple[int, int], str]


def main() -> None:
    """Start the servers, ask them in turns, print a table or JSON."""
    given = _arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = MODEL_PATH if given.shape == _EMBEDDED else save_decoder(Path(name) / "model")
        with contextlib.ExitStack() as stack:
            urls = {
                server: stack.enter_context(serving(folder, command, given.threads, Path(name)))
                for server, command in commands(given.keep).items()
                if server in given.servers
            }
            loads = [
                Load(users, given.questions, given.tokens, given.sound, _SIDES[given.shape])
                for users in given.users
            ]
            found = [measure(urls, str(folder), load, given.rounds) for load in loads]
    result = {"shape": given.shape, "keep": given.keep, "hardware": machine("cpu"), "loads": found}
    print(json.dumps(result, indent=1) if given.json else table(found))


def commands(keep: float) -> dict[str, list[str]]:
    """How each server is started, but for its model and port."""
    own = [sys.executable, "-m", "fastav_plugin", "serve"]
    stock = "from transformers.cli.transformers import main; main()"
    ratios = ["--keep-ratio", str(keep), "--audio-keep-ratio", str(keep)]
    pruned = ["--method", "divprune", *ratios, "--set", "min_media_tokens=1"]
    return {
        STOCK: [sys.executable, "-c", stock, "serve"],
        ONE_BY_ONE: [*own, "--max-batch", "1", *pruned],
        DENSE: [*own, "--method", "none"],
        PRUNED: [*own, *pruned],
    }


def save_decoder(folder: Path) -> Path:
    """A model of 24 million random parameters whose pictures are 729 tokens: the decoder's load."""
    config: Any = build_config()
    text = config.text_config
    text.hidden_size, text.intermediate_size, text.num_attention_heads = 512, 1408, 8
    text.rope_parameters["mrope_section"] = [8, 12, 12]
    text.head_dim = 64
    config.vision_config.out_hidden_size = config.audio_config.output_dim = text.hidden_size
    torch.manual_seed(0)
    model: Any = Qwen2_5OmniThinkerForConditionalGeneration(config)
    model.generation_config.update(eos_token_id=None, pad_token_id=0)
    model.save_pretrained(folder)
    processor = build_processor()
    size = {"shortest_edge": _SIDES[_DECODER] ** 2, "longest_edge": _SIDES[_DECODER] ** 2}
    processor.image_processor = Qwen2VLImageProcessor(size=size)
    processor.tokenizer.init_kwargs["size"] = dict(size)
    processor.save_pretrained(folder)
    return folder


@contextlib.contextmanager
def serving(model: Path, command: Sequence[str], threads: int, logs: Path) -> Iterator[str]:
    """A server's address, while it runs."""
    process, url = start(model, command, threads, logs)
    try:
        yield url
    finally:
        stop(process)


def start(
    model: Path, command: Sequence[str], threads: int, logs: Path
) -> tuple[subprocess.Popen[bytes], str]:
    """A server that answers, and its address.

    Args:
        model: a checkpoint's folder.
        command: begins with interpreter, two arguments and "serve", after which the model comes.
        threads: of torch.
        logs: folder for what it prints.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    place = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    log = logs / f"{port}.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command[:4], str(model), *command[4:], *place],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)},
        )
    for _ in range(1200):
        if process.poll() is not None:
            sys.exit(f"{' '.join(command)} ended:\n{log.read_text()[-2000:]}")
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health"):
            return process, url
        time.sleep(0.1)
    stop(process)
    sys.exit(f"{' '.join(command)} does not answer after two minutes.")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server, which answers first what it was asked."""
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=120)


def measure(urls: Mapping[str, str], model: str, load: Load, rounds: int) -> dict[str, Any]:
    """Medians over rounds of one load, after a round that warms up."""
    found: dict[str, list[Measured]] = {server: [] for server in urls}
    for number in range(rounds + 1):
        for server, url in urls.items():
            told = f"{load.users} users, round {number} of {rounds}: {server}"
            print(f"{told:70}", end="\r", file=sys.stderr, flush=True)
            found[server].append(asyncio.run(ask_all(url, model, load, number)))
    for number in range(rounds + 1):
        _check_equal(found, number, (STOCK, DENSE))
        _check_equal(found, number, (ONE_BY_ONE, PRUNED))
    counted = {server: each[1:] for server, each in found.items()}  # the first warmed up
    ratios = {
        name: statistics.median(
            ours.rate / theirs.rate
            for ours, theirs in zip(counted[one], counted[other], strict=True)
        )
        for name, (one, other) in RATIOS.items()
        if {one, other} <= set(counted)
    }
    return {
        **vars(load),
        "rate": {
            server: statistics.median(m.rate for m in each) for server, each in counted.items()
        },
        "first": {
            server: statistics.median(m.first for m in each) for server, each in counted.items()
        },
        "ratios": ratios,
    }


def _check_equal(found: Mapping[str, list[Measured]], number: int, pair: tuple[str, str]) -> None:
    if set(pair) <= set(found):
        one, other = (found[server][number].answers for server in pair)
        wrong = [key for key in one if one[key] != other[key]]
        if wrong:
            sys.exit(f"{len(wrong)} answers of {pair[1]} are not those of {pair[0]}.")


async def ask_all(url: str, model: str, load: Load, number: int) -> Measured:
    """One round with one server."""
    answers: dict[tuple[int, int], str] = {}
    firsts = []
    settings = {
        "max_new_tokens": load.tokens,
        "min_new_tokens": load.tokens,
        "do_sample": False,
        "eos_token_id": 3,
        "pad_token_id": 0,
    }
    keys = [(user, each) for user in range(load.users) for each in range(load.questions)]
    bodies = {key: message(load, f"{number} {key}") for key in keys}

    async with openai.AsyncOpenAI(
        base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=900
    ) as client:

        async def one(user: int) -> None:
            for each in range(load.questions):
                begun, text = time.perf_counter(), ""
                stream = await client.chat.completions.create(
                    model=model,
                    messages=[bodies[user, each]],
                    stream=True,
                    extra_body={"generation_config": json.dumps(settings)},
                )
                async for chunk in stream:
                    said = chunk.choices[0].delta.content if chunk.choices else None
                    if said:
                        if not text:
                            firsts.append(time.perf_counter() - begun)
                        text += said
                answers[user, each] = text

        begun = time.perf_counter()
        await asyncio.gather(*(one(user) for user in range(load.users)))
        seconds = time.perf_counter() - begun
    return Measured(len(keys) / seconds, statistics.median(firsts), answers)


def message(load: Load, seed: str) -> Any:
    """A question about a picture of its own, which compresses as photographs do."""
    draw = np.random.default_rng(list(seed.encode()))
    small = Image.fromarray(draw.integers(0, 255, (14, 14, 3), dtype=np.uint8))
    picture = io.BytesIO()
    small.resize((load.side, load.side), Image.Resampling.BICUBIC).save(picture, "JPEG")
    data = base64.b64encode(picture.getvalue()).decode()
    parts: list[Any] = [
        {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}
    ]
    if load.sound:
        parts.append({"type": "input_audio", "input_audio": {"data": _sound(), "format": "wav"}})
    parts.append({"type": "text", "text": "Which colour is the circle?"})
    return {"role": "user", "content": parts}


def _sound() -> str:
    _, waveform = read_clip(SAMPLES[0].path)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes((waveform.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return base64.b64encode(buffer.getvalue()).decode()


def table(loads: Sequence[Mapping[str, Any]]) -> str:
    """The medians in Markdown."""
    lines = ["| Users | Server | Requests/s | First text, s |", "|---:|---|---:|---:|"]
    for load in loads:
        lines += [
            f"| {load['users']} | {server} | {rate:.2f} | {load['first'][server]:.2f} |"
            for server, rate in load["rate"].items()
        ]
    for load in loads:
        said = ", ".join(f"{ratio:.2f} {name}" for name, ratio in load["ratios"].items())
        lines.append(f"\n{load['users']} users, batched and pruned: {said}")
    return "\n".join(lines)


def _arguments() -> Any:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = ",".join(commands(0.1))
    parser.add_argument("--shape", choices=list(_SIDES), default=_DECODER)
    parser.add_argument("--users", default="1,8", help="clients at once, several with commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--questions", type=int, default=2, help="of each client and round")
    parser.add_argument("--tokens", type=int, default=32, help="of each answer")
    parser.add_argument("--sound", action="store_true", help="8 s of sound beside each picture")
    parser.add_argument("--keep", type=float, default=0.1, help="share of the media kept")
    parser.add_argument("--servers", default=every, help="several with semicolons")
    parser.add_argument("--threads", type=int, default=1, help="of each server")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    given.users = [int(count) for count in given.users.split(",")]
    given.servers = [name.strip() for name in given.servers.split(";")]
    if given.servers == [every]:
        given.servers = list(commands(0.1))
    return given


if __name__ == "__main__":
    main()
