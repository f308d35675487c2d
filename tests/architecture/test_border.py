"""Private and moving names of transformers and torch stand in upstream/ alone."""

from pathlib import Path

import pytest

from tests.architecture.border import ELSEWHERE, ROOM, violations
from tests.architecture.imports import modules, room
from tests.architecture.test_layers_of_imports import plant

ROOT = Path(__file__).parents[2]


def test_no_module_outside_the_room_names_them() -> None:
    found = modules(ROOT)
    assert len(found) > 200
    assert sum(room(name) == ROOM for name in found) > 5
    assert violations(found) == []


def test_every_exception_is_one() -> None:
    found = modules(ROOT)
    for name, places in ELSEWHERE.items():
        for place in places:
            assert name in found[place].read_text(encoding="utf-8"), (name, place)


@pytest.mark.parametrize(
    "source",
    [
        "from torch._dynamo.eval_frame import skip_code",
        "import torch._dynamo",
        "def late():\n    import torch._dynamo",
        "import importlib\nframe = importlib.import_module('torch._dynamo.eval_frame')",
        "__import__('torch._dynamo')",
        "from operator import attrgetter\nmesh = attrgetter('config._device_mesh')",
        "def late(model):\n    delattr(model, '_device_mesh')",
        "from transformers.generation.utils import _private",
        "def late(model):\n    return model._device_mesh",
        "def late(model):\n    return getattr(model, '_device_mesh', None)",
        "def late(model):\n    return hasattr(model, '_orig_mod')",
        "def late(model):\n    setattr(model, '_version', 1)",
        "def late(model, cache):\n    return model(past_key_values=cache)",
        "def late(output):\n    return output.past_key_values",
        "CACHE = 'past_key_values'",
        "def forward(self, past_key_values=None):\n    pass",
        "ROTARY = 'position_embeddings'",
    ],
)
def test_a_planted_name_is_found(tmp_path: Path, source: str) -> None:
    root = plant(tmp_path, {"cache": source})
    assert violations(modules(root))
    room = plant(tmp_path / "room", {"upstream/arguments": source, "cache": ""})
    assert violations(modules(room)) == []


def test_private_names_of_our_own_are_free(tmp_path: Path) -> None:
    source = "class Cache:\n    def _own(self):\n        return self._own\n"
    assert violations(modules(plant(tmp_path, {"cache": source}))) == []
