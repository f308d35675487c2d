"""A source distribution holds the whole checkout, and makes the wheel that the checkout makes."""

from __future__ import annotations

import email
import email.message
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: What setuptools adds, and what a checkout alone has.
ADDED = ("PKG-INFO", "fastav_plugin.egg-info/")
LEFT_OUT = {".gitignore"}
LINKS = {
    "deploy/tgi/shims": "../../model_overrides/tgi/shims",
    "fastav_plugin/hooks": "../hooks",
    "fastav_plugin/model_overrides": "../model_overrides",
}


def build(kind: str, source: Path, output: Path) -> Path:
    """Make an "sdist" or a "wheel" of a source tree with the setuptools that is installed."""
    code = f"import setuptools.build_meta as b; b.build_{kind}({str(output)!r})"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (made,) = output.iterdir()
    return made


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, since a build leaves files behind in its tree."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout:
        pytest.skip("not a git checkout")
    folder = tmp_path_factory.mktemp("checkout")
    for name in filter(os.path.lexists, (ROOT / name for name in done.stdout.split("\0")[:-1])):
        target = folder / name.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(name, target, follow_symlinks=False)
    return folder


@pytest.fixture(scope="module")
def tracked(checkout: Path) -> set[str]:
    """Files and links of the checkout before anything was built in it."""
    found = {path for path in checkout.rglob("*") if path.is_symlink() or not path.is_dir()}
    return {str(path.relative_to(checkout)) for path in found}


@pytest.fixture(scope="module")
def sdist(checkout: Path, tracked: set[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", checkout, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def unpacked(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (found,) = folder.iterdir()
    return found


@pytest.fixture(scope="module")
def wheel(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel made from the source distribution, as installers make it."""
    return build("wheel", unpacked, tmp_path_factory.mktemp("wheel"))


def test_a_source_distribution_is_the_checkout(sdist: Path, tracked: set[str]) -> None:
    with tarfile.open(sdist) as archive:
        members = {entry.name.partition("/")[2]: entry for entry in archive if not entry.isdir()}
    found = {name for name in members if not name.startswith(ADDED)}
    assert found == tracked - LEFT_OUT
    assert {"LICENSE", "Makefile", ".ci/run", "constraints.txt", "CHANGELOG.md"} <= found
    links = {name: entry.linkname for name, entry in members.items() if entry.issym()}
    assert links == LINKS
    assert members[".ci/run"].mode & 0o111


def test_its_links_lead_to_the_rooms(unpacked: Path) -> None:
    for link in LINKS:
        assert (unpacked / link).is_symlink()
        assert any((unpacked / link).iterdir())


def contents(wheel: Path) -> dict[str, int]:
    """Checksum of every file of a wheel; RECORD lists the others."""
    with zipfile.ZipFile(wheel) as archive:
        entries = archive.infolist()
    return {entry.filename: entry.CRC for entry in entries if not entry.filename.endswith("RECORD")}


def test_both_make_the_same_wheel(
    checkout: Path, tracked: set[str], wheel: Path, tmp_path: Path
) -> None:
    assert contents(wheel) == contents(build("wheel", checkout, tmp_path))


def test_what_a_wheel_holds(wheel: Path) -> None:
    names = set(contents(wheel))
    model = "fastav_plugin/lab/testbed/model/"
    assert {model + "README.md", model + "model.safetensors", "fastav_plugin/py.typed"} <= names
    assert {"fastav_plugin/hooks/base.py", "fastav_plugin/model_overrides/base.py"} <= names
    page = "fastav_plugin/analysis/explore/page."
    assert {page + kind for kind in ("css", "html", "js")} <= names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"fastav_plugin"}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert not [name for name in names if name.endswith(".png")]


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def test_the_metadata_of_an_index_page(metadata: email.message.Message) -> None:
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata["Keywords"] and metadata["Summary"]
    classifiers = metadata.get_all("Classifier", [])
    assert "Typing :: Typed" in classifiers
    # An index refuses them beside a License-Expression.
    assert not [line for line in classifiers if line.startswith("License ::")]
    addresses = dict(line.split(", ") for line in metadata.get_all("Project-URL", []))
    assert all(address.startswith("https://") for address in addresses.values())


def test_links_of_the_readme_suit_an_index_page(metadata: email.message.Message) -> None:
    """Once a public address of the source is stated, links must not be relative any more."""
    addresses = dict(line.split(", ") for line in metadata.get_all("Project-URL", []))
    if "Source" not in addresses:
        pytest.skip("setup.cfg states no public address of the source yet")
    targets = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    # "..." stands for an address in the text.
    allowed = ("https://", "#", "...")
    assert not [target for target in targets if not target.startswith(allowed)]


@pytest.mark.slow
def test_the_tests_of_a_source_distribution_run(unpacked: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "tests/architecture", "tests/hooks", "tests/layers"],
        cwd=unpacked,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
