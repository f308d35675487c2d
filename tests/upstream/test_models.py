"""Families of later releases are told apart from families that are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers
from packaging.version import Version

from fastav_plugin import ConfigError
from fastav_plugin.cli.models import _needs
from fastav_plugin.model_overrides.own_models.configuration import read_config
from fastav_plugin.model_overrides.unsupported import REASONS
from fastav_plugin.upstream import models
from fastav_plugin.upstream.models import SINCE, has_model_type, lacking
from fastav_plugin.upstream.releases import NEWEST, OLDEST

INSTALLED = Version(transformers.__version__)


@pytest.mark.parametrize("name", sorted(SINCE))
def test_the_table_says_what_the_installed_release_has(name: str) -> None:
    assert has_model_type(name) == (INSTALLED >= Version(SINCE[name]))


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "qwen2_5_omni_thinker", *sorted(REASONS)])
def test_the_others_are_as_old_as_the_window(name: str) -> None:
    assert name not in SINCE
    assert lacking(name) is None


def folder(path: Path, model_type: str) -> Path:
    (path / "config.json").write_text(json.dumps({"model_type": model_type}))
    return path


def test_a_family_of_a_later_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SINCE, "of_tomorrow", "5.24.0")
    with pytest.raises(ConfigError, match=r"'of_tomorrow', which came with 5.24.0: pip install"):
        read_config(folder(tmp_path, "of_tomorrow"))
    assert _needs("of_tomorrow") == "5.24.0"


def test_a_family_that_no_release_has(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"'nothing', nor has any release from {OLDEST}") as found:
        read_config(folder(tmp_path, "nothing"))
    assert NEWEST in str(found.value)
    assert _needs("nothing") is None
    assert _needs("llava") is None


def test_own_models_are_not_missing() -> None:
    from fastav_plugin import register_models

    register_models()
    for name in ("videollama2_qwen2", "video_salmonn_2", "video_salmonn2_plus"):
        assert models.lacking(name) is None
