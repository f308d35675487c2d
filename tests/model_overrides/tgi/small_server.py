"""A server package of three files with the entrance of TGI's: to start a shard without TGI.

What is TGI's in it are names, the order of imports and the log's set-up (cli.py, server.py and
models/__init__.py of 3.3.7), because that is what a model override is fitted into.
"""

from __future__ import annotations

import sys
from pathlib import Path

FILES = {
    "__init__.py": "",
    "models/__init__.py": """
def get_model(model_id, lora_adapter_ids, revision, sharded, quantize, speculate, dtype,
              kv_cache_dtype, trust_remote_code, max_input_tokens):
    return f"stock {model_id}"

def get_model_with_lora_adapters(model_id, *rest):
    return get_model(model_id, [], *rest)
""",
    "server.py": """
import signal
import socket
import time

from loguru import logger
from text_generation_server.models import get_model_with_lora_adapters

def serve(model_id, uds_path):
    keep = []
    signal.signal(signal.SIGTERM, lambda *_: keep.append(False))
    try:
        model = get_model_with_lora_adapters(
            model_id, None, False, None, None, None, None, False, None
        )
    except Exception:
        logger.exception("Error when initializing model")
        raise
    logger.info("loaded {}", model)
    import os
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{uds_path}-{os.environ.get('RANK', 0)}")
        logger.info("Server started")
        while not keep:
            time.sleep(0.05)
""",
    "cli.py": """
import json
import os
import sys

def app():
    command, model_id, *rest = sys.argv[1:]
    if command == "download-weights":
        seen = {"override": "fastav_plugin" in sys.modules}
        open(os.environ["DOWNLOAD_LOG"], "w").write(json.dumps(seen))
        return 0
    assert command == "serve", command
    from loguru import logger
    logger.remove()
    logger.add(sys.stdout, format="{message}", filter="text_generation_server", level="INFO",
               serialize="--json-output" in rest, backtrace=True, diagnose=False)
    # Import here after the logger is added
    from text_generation_server import server
    server.serve(model_id, rest[rest.index("--uds-path") + 1])
    return 0
""",
}

#: With SMALL_ENGINE, what loads a model for TGI is a sentence: these tests are about the way to it.
COMMAND = """#!{python}
import os, sys, types
sys.path.insert(0, {folder!r})
if os.environ.get("SMALL_ENGINE"):
    engine = types.ModuleType("fastav_plugin.model_overrides.tgi.models")
    engine.get_model = lambda model_id, *rest: f"pruned {{model_id}}"
    sys.modules[engine.__name__] = engine
from text_generation_server.cli import app
sys.exit(app())
"""


def write_server(folder: Path) -> Path:
    """Write the package and its command.

    Returns:
        the folder to put on PATH.
    """
    for name, text in FILES.items():
        path = folder / "lib" / "text_generation_server" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    commands = folder / "bin"
    commands.mkdir()
    server = commands / "text-generation-server"
    server.write_text(COMMAND.format(python=sys.executable, folder=str(folder / "lib")))
    launcher = commands / "text-generation-launcher"
    stand_in = Path(__file__).with_name("stand_in_launcher.py")
    launcher.write_text(f'#!/bin/sh\nexec {sys.executable} {stand_in} "$@"\n')
    for command in (server, launcher):
        command.chmod(0o755)
    return commands
