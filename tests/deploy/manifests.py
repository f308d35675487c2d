"""The manifests of deploy/, as they are written and as kustomize builds them."""

from __future__ import annotations

import importlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SERVE = ROOT / "deploy" / "serve"
TGI = ROOT / "deploy" / "tgi"

# It has no types.
yaml: Any = importlib.import_module("yaml")

Document = dict[str, Any]


def load(path: Path) -> Any:
    """One file's only document; a key that is given twice is an error."""

    class Strict(yaml.SafeLoader):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [key.value for key, _ in node.value if key.tag.endswith(":str")]
            assert len(keys) == len(set(keys)), f"{path}: a key is given twice among {keys}"
            return super().construct_mapping(node, deep)

    return yaml.load(path.read_text(), Strict)


def written(*folders: Path) -> list[Document]:
    """All manifests of some folders, without what is for kustomize."""
    return [
        load(path)
        for folder in folders
        for path in sorted(folder.glob("*.yaml"))
        if path.name != "kustomization.yaml"
    ]


def built(folder: Path) -> list[Document]:
    """What `kubectl apply -k` sends."""
    command = shutil.which("kubectl")
    if command is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run([command, "kustomize", str(folder)], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of_kind(documents: list[Document], kind: str) -> Document:
    """The only one of its kind."""
    (found,) = (document for document in documents if document["kind"] == kind)
    return found


def container(deployment: Document) -> Document:
    """The only container of a Deployment."""
    (found,) = deployment["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found
