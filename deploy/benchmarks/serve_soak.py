"""`fastav serve` under a load of many kinds, faults among them: is every answer right?

A server with the bundled model is asked by many clients at once for some minutes: pictures, sound,
words; whole answers and streams. Some hang up, send damaged media, or settings that are refused;
one asks for 10,000 tokens. Each answer must be the one that its request gets alone, each fault an
error of its own kind, and afterwards the server must hold as much memory as before and end when
it is told to.

    python deploy/benchmarks/serve_soak.py --clients 64 --minutes 5

Needs fastav-plugin[serve]. The exit status is 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import openai
from serve_load import Load, message, start, stop

from fastav_plugin.lab.testbed.model import MODEL_PATH

#: Shares of requests that do not want a plain answer.
HANG_UP, DAMAGED, REFUSED = 0.10, 0.05, 0.05
SETTINGS: dict[str, Any] = {"do_sample": False, "pad_token_id": 0, "max_new_tokens": 12}
#: Prompts of each kind; every one is asked many times.
PROMPTS = 6
#: Tokens of the longest request.
LONG = 10_000


class Soak:
    """Clients of one server, and what they got.

    Args:
        url: of the server.
        model: the name it serves.
    """

    def __init__(self, url: str, model: str) -> None:
        self.client = openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=900
        )
        self.model = model
        loads = [Load(1, 1, 12, sound, 112) for sound in (False, True)]
        self.prompts = [message(loads[n % 2], f"soak {n}") for n in range(2 * PROMPTS)]
        words = {"type": "text", "text": "Which colour is the circle?"}
        self.prompts.append({"role": "user", "content": [words]})
        self.expected: list[str] = []
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    async def alone(self) -> None:
        """What each prompt is answered when nobody else asks."""
        self.expected = [await self.ask(number, stream=False) for number in range(self.size)]

    @property
    def size(self) -> int:
        """Number of prompts."""
        return len(self.prompts)

    async def ask(self, number: int, *, stream: bool, leave: bool = False, **given: Any) -> str:
        """The answer to one prompt; with `leave` what came before hanging up."""
        settings = {**SETTINGS, **given}
        answer: Any = await self.client.chat.completions.create(
            model=self.model,
            messages=[self.prompts[number]],
            stream=stream,
            extra_body={"generation_config": json.dumps(settings)},
        )
        if not stream:
            return str(answer.choices[0].message.content)
        text = ""
        async for chunk in answer:
            text += chunk.choices[0].delta.content or ""
            if leave and text:
                await answer.close()
                break
        return text

    async def one(self, source: random.Random) -> None:
        """One request of some kind, and whether its answer is right."""
        number, kind = source.randrange(self.size), source.random()
        if kind < HANG_UP:
            text = await self.ask(number, stream=True, leave=True, max_new_tokens=200)
            self.check("hung up", bool(text), text)
        elif kind < HANG_UP + DAMAGED:
            await self.refused("damaged", self.damaged(source))
        elif kind < HANG_UP + DAMAGED + REFUSED:
            await self.refused("refused", self.ask(number, stream=False, use_cache=False))
        else:
            stream = source.random() < 0.5
            text = await self.ask(number, stream=stream)
            self.check("answered", text == self.expected[number], text)

    async def damaged(self, source: random.Random) -> Any:
        """A picture that is none."""
        url = f"data:image/png;base64,{'AAAA' * source.randint(1, 9)}"
        part = {"type": "image_url", "image_url": {"url": url}}
        messages: Any = [{"role": "user", "content": [part]}]
        return await self.client.chat.completions.create(model=self.model, messages=messages)

    async def refused(self, kind: str, request: Any) -> None:
        """Whether a request that cannot be answered is refused with status 400 and a reason."""
        try:
            await request
        except openai.BadRequestError as error:
            self.check(kind, len(str(error.message)) > 20, str(error))
        except Exception as error:
            self.check(kind, False, repr(error))
        else:
            self.check(kind, False, "was answered")

    def check(self, kind: str, right: bool, text: str) -> None:
        """Count an answer, and keep a wrong one."""
        self.counts[kind] += 1
        if not right:
            self.wrong.append(f"{kind}: {text[:200]}")

    async def run(self, clients: int, seconds: float) -> None:
        """Ask for some time, with one long request beside."""
        end = time.monotonic() + seconds
        long = asyncio.create_task(self.long(end))

        async def client(number: int) -> None:
            source = random.Random(number)
            while time.monotonic() < end:
                await self.one(source)

        await asyncio.gather(*(client(number) for number in range(clients)))
        await long

    async def long(self, end: float) -> None:
        """A request for very many tokens, which its client leaves when the time is over."""
        answer: Any = await self.client.chat.completions.create(
            model=self.model,
            messages=[self.prompts[0]],
            stream=True,
            extra_body={
                "generation_config": json.dumps(
                    {**SETTINGS, "max_new_tokens": LONG, "min_new_tokens": LONG}
                )
            },
        )
        count = 0
        async for _ in answer:
            count += 1
            if time.monotonic() > end:
                await answer.close()
                break
        self.check("long", count > 0, f"{count} pieces")


def memory(pid: int) -> float:
    """Resident megabytes of a process, on Linux."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


async def _soak(soak: Soak, pid: int, clients: int, seconds: float) -> tuple[float, float]:
    await soak.alone()
    await soak.run(clients, min(20.0, seconds / 4))  # buffers of all sizes are made once
    before = memory(pid)
    await soak.run(clients, seconds)
    await asyncio.sleep(2)
    await soak.alone()
    return before, memory(pid)


def main() -> None:
    """Run the load, print what came of it."""
    given = _arguments()
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "fastav_plugin", "serve"]
        pruned = ["--method", "fastav+divprune", "--set", "min_media_tokens=1"]
        process, url = start(MODEL_PATH, [*command, *pruned], given.threads, Path(name))
        soak = Soak(url, str(MODEL_PATH))
        before, after = asyncio.run(_soak(soak, process.pid, given.clients, 60 * given.minutes))
        begun = time.monotonic()
        stop(process)
        ended = process.returncode in (0, -signal.SIGTERM)
    result = {
        "clients": given.clients,
        "minutes": given.minutes,
        "requests": dict(soak.counts),
        "wrong": len(soak.wrong),
        "examples": soak.wrong[:5],
        "megabytes": {"before": round(before), "after": round(after)},
        "ended": {"status": process.returncode, "seconds": round(time.monotonic() - begun, 1)},
    }
    print(json.dumps(result, indent=1))
    sys.exit(0 if ended and not soak.wrong and after < before * 1.1 + 50 else 1)


def _arguments() -> Any:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of the server")
    return parser.parse_args()


if __name__ == "__main__":
    main()
