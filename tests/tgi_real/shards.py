"""The processes of a server, and calls that go to every shard at once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import psutil
from text_generation_server.pb import generate_pb2 as pb
from text_generation_server.pb import generate_pb2_grpc

from tests.tgi_real.requests import warmup_message

#: Seconds that a start and a call may take.
START, CALL = 120.0, 120.0
#: Seconds in which a shard that needs no other has answered.
ALONE = 10.0


class ShardError(Exception):
    """A shard answered with an error; the message is its own."""


class Shards:
    """A running server of one or more shards.

    Args:
        command: that starts it, without `--uds-path`.
        count: of shards, each of which listens on a socket.
        environment: additions to this process's own.
        direct: start one process per rank, as the launcher does; else one process, a launcher,
            starts them.
    """

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        environment: dict[str, str],
        *,
        direct: bool = True,
    ) -> None:
        # A socket's path must be short.
        self.folder = tempfile.TemporaryDirectory(prefix="tgi-")
        self.sockets = Path(self.folder.name) / "s"
        self.log = Path(self.folder.name) / "log"
        self.count, self.command, self.direct = count, list(command), direct
        self.environment = {**os.environ, **environment}
        self.processes: list[subprocess.Popen[bytes]] = []
        self.channels: list[Any] = []
        self.stubs: list[Any] = []

    def __enter__(self) -> Shards:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start every process and wait for the sockets.

        Raises:
            ShardError: a process ended, or took too long; with the end of the log.
        """
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        for rank in range(self.count if self.direct else 1):
            ranks = {"RANK": str(rank), "WORLD_SIZE": str(self.count)}
            ranks |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            own = ranks if self.direct else {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            with self.log.open("ab") as log:
                self.processes.append(
                    subprocess.Popen(
                        self._arguments(),
                        env=self.environment | own,
                        stdout=log,
                        stderr=log,
                        stdin=subprocess.DEVNULL,
                        start_new_session=True,
                    )
                )
        self._wait()
        for address in self.addresses():
            options = [
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
            ]
            self.channels.append(grpc.insecure_channel(address, options=options))
            self.stubs.append(generate_pb2_grpc.TextGenerationServiceStub(self.channels[-1]))

    def _arguments(self) -> list[str]:
        sharded = ["--sharded"] if self.direct and self.count > 1 else []
        name = "--uds-path" if self.direct else "--shard-uds-path"
        return [*self.command, name, str(self.sockets), *sharded]

    def addresses(self) -> list[str]:
        return [f"unix://{self.sockets}-{rank}" for rank in range(self.count)]

    def _wait(self) -> None:
        deadline = time.monotonic() + START
        paths = [Path(f"{self.sockets}-{rank}") for rank in range(self.count)]
        while not all(path.exists() for path in paths):
            if any(process.poll() is not None for process in self.processes):
                raise ShardError(f"a process ended at its start:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise ShardError(f"not ready after {START:.0f} s:\n{self.tail()}")
            time.sleep(0.1)

    def tail(self, lines: int = 60) -> str:
        """The end of the log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def stop(self) -> list[int]:
        """End every process of the server; their exit statuses."""
        for channel in self.channels:
            channel.close()
        family = self._family()
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        statuses = []
        for process in self.processes:
            try:
                statuses.append(process.wait(timeout=15))
            except subprocess.TimeoutExpired:
                statuses.append(int(-signal.SIGKILL))
                process.kill()
                process.wait(timeout=15)
        # Children that outlive their parent would keep a core busy for ever.
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.folder.cleanup()
        return statuses

    def call(self, name: str, message: Any) -> list[Any]:
        """Send a message to all shards at once: the ranks of one model wait for each other.

        Raises:
            ShardError: one of them answered with an error, or not in time.
        """
        calls = [getattr(stub, name).future(message, timeout=CALL) for stub in self.stubs]
        try:
            return [call.result() for call in calls]
        except grpc.RpcError as error:
            for call in calls:
                call.exception()
            raise ShardError(f"{name}: {error.code().name}: {error.details()}") from error

    @contextmanager
    def another(self) -> Iterator[Any]:
        """A client of its own for the first shard, gone at the end."""
        with grpc.insecure_channel(self.addresses()[0]) as channel:
            yield generate_pb2_grpc.TextGenerationServiceStub(channel)

    def resident(self) -> int:
        """Bytes in memory of all processes of the server."""
        return sum(process.memory_info().rss for process in self._family())

    def _family(self) -> list[Any]:
        found: list[Any] = []
        for process in self.processes:
            if process.poll() is None:
                whole = psutil.Process(process.pid)
                found += [whole, *whole.children(recursive=True)]
        return found

    def info(self) -> Any:
        return self.call("Info", pb.InfoRequest())[0]

    def warm_up(self) -> Any:
        """The router's first calls: an empty cache, then its warm-up."""
        self.call("ClearCache", pb.ClearCacheRequest())
        return self.call("Warmup", warmup_message())[0]

    def answers_alone(self, request: Any) -> bool:
        """Whether the first shard answers while the others know nothing; the last call there is.

        One of several ranks that share a model waits for the others, and from then on for ever.
        """
        message = pb.PrefillRequest(batch=pb.Batch(id=2**40, requests=[request], size=1))
        try:
            self.stubs[0].Prefill(message, timeout=ALONE)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise ShardError(f"Prefill: {error.details()}") from error
            return False
        return True

    def healthy(self) -> bool:
        """Whether all answer."""
        return len(self.call("Health", pb.HealthRequest())) == self.count
