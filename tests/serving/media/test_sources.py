"""Which files, data: URIs and addresses a request may name."""

from __future__ import annotations

import base64
import os
import time
from pathlib import Path

import pytest

from fastav_plugin import ConfigError, FastAVError
from fastav_plugin.serving.media.policy import MediaError, MediaPolicy
from fastav_plugin.serving.media.references import Reference, split_references
from fastav_plugin.serving.media.sources import read_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "media" / "inner").mkdir(parents=True)
    (tmp_path / "media" / "a.png").write_bytes(b"picture")
    (tmp_path / "media" / "inner" / "b (1).png").write_bytes(b"deeper")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "media-other").mkdir()
    (tmp_path / "media-other" / "c.png").write_bytes(b"next door")
    return tmp_path / "media"


def test_splitting() -> None:
    text = "See ![](a.png)![alt]( b (1).png )<video>c.mp4</video> and <audio> d.wav </audio>."
    assert split_references(text) == [
        "See ",
        Reference("image", "a.png"),
        Reference("image", "b (1).png"),
        Reference("video", "c.mp4"),
        " and ",
        Reference("audio", "d.wav"),
        ".",
    ]


@pytest.mark.parametrize(
    "text", ["", "no media", "[a](b)", "![a]", "![a](b", "<video>", "<video>a</audio>", "!(a)[b]"]
)
def test_texts_without_media(text: str) -> None:
    assert split_references(text) == ([text] if text else [])


@pytest.mark.parametrize(
    "part", ["![](", "![", "<video>", "![]( ", "![](a(b)", "<audio> ", "![](()"]
)
def test_splitting_takes_time_in_proportion(part: str) -> None:
    """A text of many beginnings: twice as long must not take four times as long."""
    start = time.process_time()
    assert split_references(part * 200_000) == [part * 200_000]
    assert time.process_time() - start < 10  # a pattern that looks to the end takes hours


def test_files_below_the_folder(folder: Path) -> None:
    policy = MediaPolicy(media_dir=folder)
    for source in ("a.png", "inner/../a.png", str(folder / "a.png"), "./a.png"):
        assert read_source("image", source, policy) == b"picture"
    (folder / "link.png").symlink_to("inner/b (1).png")
    assert read_source("image", "link.png", policy) == b"deeper"


@pytest.mark.parametrize(
    "source",
    [
        "../secret",
        "inner/../../secret",
        "../media-other/c.png",
        "/etc/passwd",
        "/proc/self/environ",
        "missing.png",
        "a.png/x",
        "link",
        "folder-link/secret",
        "loop",
        "a\0b",
        "a.png\0b",
        "x" * 5000,
    ],
)
def test_files_elsewhere(source: str, folder: Path) -> None:
    """Missing or outside: the answer is the same, and names no path of the server."""
    (folder / "link").symlink_to(folder.parent / "secret")
    (folder / "folder-link").symlink_to(folder.parent)
    (folder / "loop").symlink_to("loop")
    with pytest.raises(MediaError) as error:
        read_source("image", source, MediaPolicy(media_dir=folder))
    assert str(error.value) == "there is no such file below the media folder."


@pytest.mark.parametrize("outside", ["/etc/passwd", "/etc/nosuch", "/proc/1", "../secret", "../no"])
def test_nothing_outside_is_touched(outside: str, folder: Path) -> None:
    """A path that leaves and comes back is what it spells, whatever it would pass on its way."""
    policy = MediaPolicy(media_dir=folder)
    up = "../" * 20
    assert read_source("image", f"{outside}/{up}{folder}/a.png", policy) == b"picture"
    with pytest.raises(MediaError, match="no regular file"):
        read_source("image", f"{outside}/{up}{folder}", policy)


def test_what_is_no_file(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    policy = MediaPolicy(media_dir=folder)
    for source in ("pipe", "inner", "", "."):
        with pytest.raises(MediaError, match="no regular file"):
            read_source("image", source, policy)
    open_files = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(MediaError):
            read_source("image", "inner", policy)
    assert len(os.listdir("/proc/self/fd")) == open_files


def test_a_link_put_in_the_way_is_not_followed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is exchanged for a link after its path was resolved."""
    resolve = Path.resolve

    def resolve_and_exchange(self: Path, strict: bool = False) -> Path:
        found = resolve(self, strict=strict)
        if found.name == "a.png":
            found.unlink()
            found.symlink_to(folder.parent / "secret")
        return found

    policy = MediaPolicy(media_dir=folder)
    monkeypatch.setattr(Path, "resolve", resolve_and_exchange)
    with pytest.raises(MediaError, match="no such file"):
        read_source("image", "a.png", policy)


def test_large_files(folder: Path) -> None:
    policy = MediaPolicy(media_dir=folder, max_bytes=6)
    assert read_source("image", "inner/b (1).png", policy) == b"deeper"
    with pytest.raises(MediaError, match="7 bytes are more than the 6"):
        read_source("image", "a.png", policy)


def test_no_folder() -> None:
    with pytest.raises(MediaError, match="started without a media folder"):
        read_source("image", "a.png", MediaPolicy())


@pytest.mark.parametrize("source", ["file:///etc/passwd", "ftp://a/b", "concat:a|b", "rtsp://a"])
def test_other_schemes(source: str, folder: Path) -> None:
    with pytest.raises(MediaError, match="none of data, http and https"):
        read_source("video", source, MediaPolicy(media_dir=folder))


@pytest.mark.parametrize("source", ["http://a.org/b.png", "HTTPS://a.org/b.png"])
def test_addresses_are_not_paths(source: str, folder: Path) -> None:
    with pytest.raises(MediaError, match="the host 'a.org:.*' is not among"):
        read_source("image", source, MediaPolicy(media_dir=folder))


def test_data() -> None:
    payload = base64.b64encode(b"hello").decode()
    policy = MediaPolicy(max_bytes=5)
    assert read_source("image", f"data:image/png;base64,{payload}", policy) == b"hello"
    assert read_source("audio", f"DATA:audio/wav; codecs=1 ;base64,{payload}", policy) == b"hello"
    for source, why in [
        (f"data:video/mp4;base64,{payload}", "'video/mp4', which is no image"),
        (f"data:;base64,{payload}", "declares the type ''"),
        ("data:image/png,hello", "must be base64"),
        ("data:image/png;base64", "must be base64"),
        ("data:image/png;base64,a%%%", "damaged"),
        ("data:image/png;base64,é===", "damaged"),
        (f"data:image/png;base64,{base64.b64encode(b'hello!').decode()}", "6 bytes are more"),
    ]:
        with pytest.raises(MediaError, match=why):
            read_source("image", source, policy)


def test_the_policy_of_an_environment(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    policy = MediaPolicy.from_environment(
        {
            "FASTAV_MEDIA_DIR": str(tmp_path / "link"),
            "FASTAV_MEDIA_HOSTS": "A.org, b.org:8080,",
            "FASTAV_MEDIA_MAX_PIXELS": "100",
            "FASTAV_MEDIA_MAX_REDIRECTS": "0",
            "FASTAV_MEDIA_TIMEOUT": "1.5",
            "FASTAV_MEDIA_MAX_SECONDS": "",
        }
    )
    assert policy == MediaPolicy(
        media_dir=(tmp_path / "real").resolve(),
        allowed_hosts=frozenset({"a.org", "b.org:8080"}),
        max_pixels=100,
        max_redirects=0,
        timeout=1.5,
    )
    assert policy.media_dir == (tmp_path / "real").resolve()
    assert MediaPolicy.from_environment({}) == MediaPolicy()
    assert MediaPolicy.from_environment({"FASTAV_MEDIA_PRIVATE_HOSTS": "1"}).allow_private


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DIR", "/no/such/folder"),
        ("DIR", __file__),
        ("MAX_BYTES", "1.5"),
        ("MAX_FRAMES", "0"),
        ("MAX_SECONDS", "nan"),
        ("TIMEOUT", "inf"),
        ("TIMEOUT", "soon"),
        ("PRIVATE_HOSTS", "yes"),
    ],
)
def test_bad_policies(name: str, value: str) -> None:
    with pytest.raises(ConfigError):
        MediaPolicy.from_environment({f"FASTAV_MEDIA_{name}": value})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("bücher.test", "xn--bcher-kva.test"),
        ("example.org.:8080", "example.org:8080"),
        ("[0:0:0:0:0:0:0:1]", "[::1]"),
        ("[::1]:8080", "[::1]:8080"),
    ],
)
def test_hosts_are_spelled_as_addresses_are(given: str, expected: str) -> None:
    policy = MediaPolicy.from_environment({"FASTAV_MEDIA_HOSTS": given})
    assert policy.allowed_hosts == {expected}


@pytest.mark.parametrize(
    "host",
    ["http://a.org", "a.org/b", "*.a.org", "u@a.org", "a.org:port", "a b", ":80", "[::1", "a..b"],
)
def test_what_is_no_host(host: str) -> None:
    with pytest.raises(ConfigError, match="FASTAV_MEDIA_HOSTS"):
        MediaPolicy.from_environment({"FASTAV_MEDIA_HOSTS": f"b.org,{host}"})


def test_the_error_is_a_request_error() -> None:
    assert issubclass(MediaError, ValueError)
    assert issubclass(MediaError, FastAVError)
    assert not issubclass(MediaError, RuntimeError)
