"""A headless Chromium driven by chromedriver's WebDriver protocol: JSON over HTTP, nothing else."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: Names of the two programs, as distributions and Google install them.
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
#: Keys by the numbers that WebDriver gives them.
KEYS = {"left": "\ue012", "right": "\ue014", "home": "\ue011", "end": "\ue010", "tab": "\ue004"}


def missing() -> str | None:
    """Why no browser can be started here; None if one can."""
    if not any(shutil.which(name) for name in _BROWSERS):
        return "there is no Chromium"
    return None if shutil.which("chromedriver") else "there is no chromedriver"


class Browser:
    """One window; every method is one command of the protocol."""

    def __init__(self, address: str, session: str) -> None:
        self._address = f"{address}/session/{session}"

    def command(self, method: str, path: str, body: Any = None) -> Any:
        """Send a command; return its value."""
        return _send(method, f"{self._address}{path}", body)

    def open(self, address: str) -> None:
        """Go to an address and wait until it is loaded."""
        self.command("POST", "/url", {"url": address})

    def run(self, script: str, *arguments: Any) -> Any:
        """What a JavaScript function body returns."""
        body = {"script": script, "args": list(arguments)}
        return self.command("POST", "/execute/sync", body)

    def devtools(self, name: str, **parameters: Any) -> Any:
        """A command of Chromium's own protocol."""
        return self.command("POST", "/goog/cdp/execute", {"cmd": name, "params": parameters})

    def press(self, *keys: str) -> None:
        """Press keys, by name in KEYS or as characters, where the focus is."""
        strokes = [
            {"type": kind, "value": KEYS.get(key, key)}
            for key in keys
            for kind in ("keyDown", "keyUp")
        ]
        keyboard = {"type": "key", "id": "keyboard", "actions": strokes}
        self.command("POST", "/actions", {"actions": [keyboard]})

    def tap(self, selector: str, *, touch: bool = False) -> None:
        """Click, or touch, the middle of the first element that is found."""
        found = self.command("POST", "/element", {"using": "css selector", "value": selector})
        move = {"type": "pointerMove", "origin": found, "x": 0, "y": 0}
        down, up = ({"type": kind, "button": 0} for kind in ("pointerDown", "pointerUp"))
        pointer = {
            "type": "pointer",
            "id": "finger" if touch else "mouse",
            "parameters": {"pointerType": "touch" if touch else "mouse"},
            "actions": [move, down, up],
        }
        self.command("POST", "/actions", {"actions": [pointer]})

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """Make the window so large, or as a phone's."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        self.devtools("Emulation.setTouchEmulationEnabled", enabled=phone)

    def prefer(self, **features: str) -> None:
        """Set what the user prefers, as prefers_color_scheme="dark"."""
        named = [
            {"name": name.replace("_", "-"), "value": value} for name, value in features.items()
        ]
        self.devtools("Emulation.setEmulatedMedia", features=named)

    def screenshot(self, path: Path) -> None:
        """Write what the window shows as a PNG."""
        path.write_bytes(base64.b64decode(self.command("GET", "/screenshot")))

    def logged(self) -> list[str]:
        """What the console got since the last call: errors of scripts and of loading."""
        found = self.command("POST", "/se/log", {"type": "browser"})
        return [f"{entry['level']}: {entry['message']}" for entry in found]

    def requested(self) -> list[str]:
        """Addresses that were asked for since the last call, data addresses left out."""
        found = self.command("POST", "/se/log", {"type": "performance"})
        messages = [json.loads(entry["message"])["message"] for entry in found]
        addresses = [
            str(message["params"]["request"]["url"])
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]
        return [address for address in addresses if not address.startswith("data:")]


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser while the block runs."""
    driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    try:
        port = next(_port(line) for line in driver.stdout if "successfully on port" in line)
        address = f"http://127.0.0.1:{port}"
        options = {
            # A container's root has no sandbox, and little shared memory.
            "args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
        }
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        body = {"capabilities": {"alwaysMatch": wanted}}
        session = _send("POST", f"{address}/session", body)["sessionId"]
        window = Browser(address, session)
        try:
            yield window
        finally:
            window.command("DELETE", "")
    finally:
        driver.terminate()
        driver.wait(10)
        driver.stdout.close()


def _port(line: str) -> int:
    return int(line.rstrip(".\n").rpartition("on port ")[2])


def _send(method: str, address: str, body: Any) -> Any:
    data = None if method != "POST" else json.dumps(body or {}).encode()
    request = urllib.request.Request(
        address, data, {"Content-Type": "application/json"}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise RuntimeError(json.load(error)["value"]["message"]) from None


def wait_until(true: Any, *, seconds: float = 10) -> None:
    """Call a function until it returns something true; fail after so many seconds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
