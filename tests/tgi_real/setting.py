"""What the groups of checks share: models, files, servers."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fastav_plugin import FastAVConfig
from tests.tgi_real.cases import CASES, Reference
from tests.tgi_real.checkpoints import Files, checkpoint, write_files
from tests.tgi_real.report import Report
from tests.tgi_real.requests import MAX_INPUT_TOKENS, MAX_TOTAL_TOKENS, Ask
from tests.tgi_real.shards import Shards

ROOT = Path(__file__).parents[2]
SHIMS = ROOT / "model_overrides" / "tgi" / "shims"
#: What the launcher always sets; TGI fails without.
ALWAYS = {"ATTENTION": "paged", "PREFIX_CACHING": "0"}


@dataclass(frozen=True)
class Setting:
    """What the groups share.

    Attributes:
        report: of the checks.
        folder: for models and media files.
        seed: of the load.
    """

    report: Report
    folder: Path
    seed: int

    @functools.cached_property
    def files(self) -> Files:
        return write_files(self.folder / "media")

    def checkpoint(self, name: str) -> Path:
        return checkpoint(name, self.folder)

    @functools.cache  # noqa: B019  one object for the whole run
    def reference(self, name: str) -> Reference:
        return Reference(CASES[name], self.checkpoint(name))

    @functools.cache  # noqa: B019
    def config_file(self, name: str, method: str) -> Path:
        """A fastav_config.json for a server, and for the reference."""
        place = self.folder / "configs" / f"{name}-{method}"
        self.reference(name).config(method).save_pretrained(place)
        return place

    @functools.cache  # noqa: B019
    def alone(self, name: str, method: str | None, ask: Ask) -> list[int]:
        """What `generate()` answers to one request; None: without a FastAVCache."""
        config = None
        if method is not None:
            config = FastAVConfig.from_pretrained(self.config_file(name, method))
        return self.reference(name).tokens(ask, config)

    def environment(self, name: str, method: str | None) -> dict[str, str]:
        """Variables of a shard."""
        if method is None:
            return ALWAYS
        return {
            **ALWAYS,
            "PATH": f"{SHIMS}{os.pathsep}{os.environ['PATH']}",
            "FASTAV_MODEL_OVERRIDE": method,
            "FASTAV_CONFIG": str(self.config_file(name, method)),
            "FASTAV_MEDIA_DIR": str(self.files.folder),
        }

    @contextmanager
    def server(
        self, name: str, method: str | None, count: int = 1, **more: str
    ) -> Iterator[Shards]:
        """A running server of a model, warmed up as the router does."""
        command = ["text-generation-server", "serve", str(self.checkpoint(name))]
        with Shards(command, count, {**self.environment(name, method), **more}) as shards:
            self.greet(shards)
            yield shards

    def greet(self, shards: Shards) -> None:
        """The router's first calls."""
        info = shards.info()
        seen = f"{info.dtype}, {info.device_type}, padding {info.requires_padding}"
        self.report.check("Info", info.requires_padding and not info.support_chunking, seen)
        warm = shards.warm_up()
        seen = f"input {warm.max_input_tokens}, total {warm.max_total_tokens}"
        if warm.HasField("max_supported_total_tokens"):
            seen += f", supports {warm.max_supported_total_tokens}"
        asked = (MAX_INPUT_TOKENS, MAX_TOTAL_TOKENS)
        answered = (warm.max_input_tokens, warm.max_total_tokens)
        self.report.check("Warmup keeps the launcher's limits", answered == asked, seen)
