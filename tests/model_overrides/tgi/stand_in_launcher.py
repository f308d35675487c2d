"""A stand-in for TGI's launcher, which is written in Rust and not built for tests.

It keeps the part of the contract that a model override relies on, as in launcher/src/main.rs of
TGI 3.3.7: it refuses options that it does not know; sets ATTENTION and PREFIX_CACHING; runs
`download-weights` and then one `serve` per shard, found on PATH, each in its own process group
with nothing but its variables; waits for the socket files; shows only JSON lines of a shard's
output, and its errors when it dies; ends the shards on SIGTERM or SIGINT and then exits with 0, and
with 1 when a shard fails. There is no router.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

SERVER = "text-generation-server"
#: Options that the launcher hands to each shard.
PASSED = ("quantize", "speculate", "dtype", "kv_cache_dtype", "revision", "max_input_tokens")


def log(level: str, message: str) -> None:
    print(json.dumps({"level": level, "message": message}), flush=True)


def show(lines: IO[str]) -> None:
    """What of a shard's output reaches the log: JSON records."""
    for line in lines:
        try:
            record = json.loads(line)
            log(record["record"]["level"]["name"], record["text"].rstrip())
        except (ValueError, KeyError, TypeError):
            continue


class Shard:
    def __init__(self, options: argparse.Namespace, rank: int) -> None:
        self.socket = Path(f"{options.shard_uds_path}-{rank}")
        self.socket.unlink(missing_ok=True)
        command = [SERVER, "serve", options.model_id, "--uds-path", options.shard_uds_path]
        command += ["--logger-level", "INFO", "--json-output"]
        command += ["--trust-remote-code"] if options.trust_remote_code else []
        command += ["--sharded"] if options.num_shard > 1 else []
        for name in PASSED:
            if getattr(options, name) is not None:
                command += ["--" + name.replace("_", "-"), getattr(options, name)]
        command += ["--otlp-service-name", "text-generation-inference.router"]
        variables = {name: value for name, value in os.environ.items() if name != "LOG_LEVEL"}
        variables |= {"RANK": str(rank), "WORLD_SIZE": str(options.num_shard)}
        variables |= {"MASTER_ADDR": options.master_addr, "MASTER_PORT": str(options.master_port)}
        variables |= {"TORCH_NCCL_AVOID_RECORD_STREAMS": "1", "CUDA_MEMORY_FRACTION": "1"}
        variables |= {"SAFETENSORS_FAST_GPU": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        variables |= {"HF_HUB_ENABLE_HF_TRANSFER": os.environ.get("HF_HUB_ENABLE_HF_TRANSFER", "1")}
        self.process = subprocess.Popen(
            command,
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        self.errors: list[str] = []
        self.readers = [
            threading.Thread(target=show, args=(self.process.stdout,)),
            threading.Thread(target=lambda: self.errors.extend(self.process.stderr or ())),
        ]
        for reader in self.readers:
            reader.start()

    def failed(self) -> bool:
        if self.process.poll() is None:
            return False
        for reader in self.readers:
            reader.join()
        log("ERROR", "Shard complete standard error output:\n" + "".join(self.errors))
        return True

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
        for reader in self.readers:
            reader.join()


def parse(arguments: list[str]) -> argparse.Namespace:
    """Exit with 2 for an option that the launcher does not know, as clap does."""
    parser = argparse.ArgumentParser(prog="text-generation-launcher", allow_abbrev=False)
    parser.add_argument("--model-id", default="bigscience/bloom-560m")
    parser.add_argument("--num-shard", type=int, default=1)
    socket = Path(tempfile.gettempdir()) / "text-generation-server"
    parser.add_argument("--shard-uds-path", default=str(socket))
    parser.add_argument("--master-addr", default="localhost")
    parser.add_argument("--master-port", type=int, default=29500)
    parser.add_argument("--port", type=int, default=3000)
    parser.add_argument("--json-output", action="store_true")
    parser.add_argument("--trust-remote-code", action="store_true")
    for name in PASSED:
        parser.add_argument("--" + name.replace("_", "-"))
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    stopped: list[Any] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.append(True))
    os.environ |= {"PREFIX_CACHING": "0", "ATTENTION": "paged"}
    download = [SERVER, "download-weights", options.model_id, "--extension", ".safetensors"]
    download += ["--logger-level", "INFO", "--json-output", "--merge-lora"]
    if subprocess.run(download, capture_output=True, text=True, check=False).returncode:
        log("ERROR", "Download encountered an error")
        return 1
    shards = [Shard(options, rank) for rank in range(options.num_shard)]
    failed = ready = False
    while not stopped and not failed:
        failed = any(shard.failed() for shard in shards)
        if not ready and not failed and all(shard.socket.exists() for shard in shards):
            ready = True
            log("INFO", "Shard ready")
        time.sleep(0.05)
    log("INFO", "Shutting down shards")
    for shard in shards:
        shard.end()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
