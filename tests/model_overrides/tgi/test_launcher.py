"""Our options on the command line of TGI's launcher."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from transformers import Qwen2ForCausalLM

from fastav_plugin import ConfigError, FastAVConfig
from fastav_plugin.model_overrides.tgi import launcher
from fastav_plugin.model_overrides.tgi.launch_settings import LaunchSettings, checked_settings
from fastav_plugin.model_overrides.tgi.launcher import SHIMS, Command, find_real, main
from tests.support.small_models import qwen2

ROOT = Path(__file__).parents[3]


def executable(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


class Replaced(Exception):
    """In place of exec, which would replace the tests."""


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Program, arguments and variables that the launcher became; PATH has a real one."""
    found: list[Any] = []

    def execve(*arguments: Any) -> None:
        found.extend(arguments)
        raise Replaced

    monkeypatch.setattr(os, "execve", execve)
    real = executable(tmp_path / "bin" / "text-generation-launcher")
    monkeypatch.setenv("PATH", f"{SHIMS}:{real.parent}")
    for name in [name for name in os.environ if name.startswith("FASTAV_")]:
        monkeypatch.delenv(name)
    return found


@pytest.mark.parametrize(
    "ours",
    [
        ["--model-override", "fastav+divprune", "--fastav-media-host", "a.org"],
        ["--model-override=fastav+divprune", "--fastav-media-host=a.org"],
    ],
)
def test_our_options_become_variables(ours: list[str], replaced: list[Any], tmp_path: Path) -> None:
    with pytest.raises(Replaced):
        main(["--model-id", "m", *ours, "--port=80", "--fastav-media-host", "b.org", "--env"])
    program, arguments, environment = replaced
    assert program == str(tmp_path / "bin" / "text-generation-launcher")
    assert arguments == ["text-generation-launcher", "--model-id", "m", "--port=80", "--env"]
    assert environment["FASTAV_MODEL_OVERRIDE"] == "fastav+divprune"
    assert environment["FASTAV_MEDIA_HOSTS"] == "a.org,b.org"
    assert environment["PATH"].split(":")[0] == str(SHIMS)
    assert environment["PATH"].count(str(SHIMS)) == 1


def test_paths_become_absolute(
    replaced: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    FastAVConfig(method="divprune").save_pretrained(tmp_path)
    options = ["--fastav-config", "fastav_config.json", "--fastav-media-dir", "."]
    with pytest.raises(Replaced):
        main(["--model-override", "divprune", *options])
    assert replaced[2]["FASTAV_CONFIG"] == str(tmp_path / "fastav_config.json")
    assert replaced[2]["FASTAV_MEDIA_DIR"] == str(tmp_path)


def test_the_variable_alone_is_enough(replaced: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTAV_MODEL_OVERRIDE", "divprune")
    monkeypatch.setenv("PATH", os.environ["PATH"].split(":")[1])
    with pytest.raises(Replaced):
        main(["--model-id", "m"])
    assert replaced[2]["PATH"].split(":")[0] == str(SHIMS)


def test_the_option_goes_before_the_variable(
    replaced: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTAV_MODEL_OVERRIDE", "divprune")
    with pytest.raises(Replaced):
        main(["--model-override", "fastav"])
    assert replaced[2]["FASTAV_MODEL_OVERRIDE"] == "fastav"


def test_without_an_override_nothing_is_changed(replaced: list[Any]) -> None:
    before = dict(os.environ)
    with pytest.raises(Replaced):
        main(["--model-id", "m", "--", "--model-override"])
    assert replaced[1] == ["text-generation-launcher", "--model-id", "m", "--", "--model-override"]
    assert {**before, "FASTAV_LAUNCHED": str(os.getpid())} == replaced[2]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model-override", "fastva"], "Known: fastav, divprune, fastav+divprune, none."),
        (["--model-override"], "`--model-override` needs a value"),
        (["--model-override="], "needs a value"),
        (["--model-override", "--port", "80"], "needs a value"),
        (["--model-override=fastav", "--model-override=none"], "given twice"),
        (["--model-overrides=fastav"], "Unknown option '--model-overrides'"),
        (["--fastav-conf", "x"], "Known: --model-override, --fastav-config"),
        (["--fastav-media-host", "a.org"], "add --model-override"),
        (["--model-override", "fastav", "--fastav-config", "no.json"], "Cannot read the config"),
        (["--model-override", "fastav", "--fastav-media-dir", "nowhere"], "media folder"),
    ],
)
def test_what_cannot_be_launched(
    arguments: list[str],
    sentence: str,
    replaced: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2
    assert not replaced
    error = capsys.readouterr().err
    assert error.startswith("fastav: ")
    assert sentence in error
    assert error.count("\n") == 1


def test_a_config_for_another_method(tmp_path: Path) -> None:
    FastAVConfig(method="divprune").save_pretrained(tmp_path)
    environment = {"FASTAV_MODEL_OVERRIDE": "fastav", "FASTAV_CONFIG": str(tmp_path)}
    with pytest.raises(ConfigError, match="for the method 'divprune', the model override is 'fas"):
        checked_settings(environment)
    settings = checked_settings({**environment, "FASTAV_MODEL_OVERRIDE": "divprune"})
    config = settings.config(qwen2())
    assert config == FastAVConfig(method="divprune", global_rule="all", fine_drop_ratio=0.1)
    assert config.source == f"{tmp_path / 'fastav_config.json'}, with method given"


def test_a_config_in_the_models_folder(tmp_path: Path) -> None:
    """Its fields count, with the method of the override, unless a file is given."""
    qwen2().save_pretrained(tmp_path)
    FastAVConfig(visual_keep_ratio=0.25, min_media_tokens=5).save_pretrained(tmp_path)
    model = Qwen2ForCausalLM.from_pretrained(tmp_path)
    config = LaunchSettings("divprune").config(model)
    assert (config.method, config.visual_keep_ratio, config.min_media_tokens) == (
        "divprune",
        0.25,
        5,
    )
    assert config.source == f"{tmp_path / 'fastav_config.json'}, with method given"
    assert LaunchSettings("none").config(model).method == "none"


def test_settings_of_an_empty_environment() -> None:
    assert LaunchSettings.from_environment({"FASTAV_MODEL_OVERRIDE": ""}) == LaunchSettings()


def test_help_shows_ours_and_then_theirs(
    replaced: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Replaced):
        main(["--help"])
    assert replaced[1] == ["text-generation-launcher", "--help"]
    shown = capsys.readouterr().out
    assert all(option in shown for option in launcher.OPTIONS)


def test_a_command_that_leads_back(
    replaced: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A link of the launcher's name to `fastav-tgi-launcher`: exec keeps the process id."""
    with pytest.raises(Replaced):
        main(["--model-override", "fastav"])
    monkeypatch.setattr(os, "environ", replaced[2])
    with pytest.raises(SystemExit):
        main([])
    assert "leads back to this command" in capsys.readouterr().err


def test_links_to_ours_are_not_the_real_one(tmp_path: Path) -> None:
    link = tmp_path / "first" / "text-generation-launcher"
    link.parent.mkdir()
    link.symlink_to(SHIMS / "text-generation-launcher")
    real = executable(tmp_path / "second" / "text-generation-launcher")
    (tmp_path / "first" / "unused").touch()
    path = f"{ROOT}/deploy/tgi/shims:{link.parent}:{real.parent}"
    assert find_real({"PATH": path}) == str(real)
    with pytest.raises(ConfigError, match="There is no text-generation-launcher"):
        find_real({"PATH": str(link.parent)})


@pytest.mark.parametrize("name", ["text-generation-launcher", "text-generation-server"])
def test_the_shims_of_two_installations(name: str, tmp_path: Path) -> None:
    """A checkout's folder first on PATH, and an installed package that puts its own before it."""
    shutil.copytree(SHIMS, tmp_path / "installed" / "shims")
    first, second = tmp_path / "installed" / "shims", f"{ROOT}/deploy/tgi/shims"
    python = executable(tmp_path / "env" / "python3", '#!/bin/sh\necho "$2 $3"\n')
    executable(tmp_path / "real" / "text-generation-server", f"#!{python}\n")
    real = executable(tmp_path / "real" / "text-generation-launcher")
    for folders in (f"{first}:{second}", f"{second}:{first}"):
        path = f"{folders}:{real.parent}:/usr/bin:/bin"
        environment = {"PATH": path, "FASTAV_MODEL_OVERRIDE": "fastav"}
        found = subprocess.run([name, "serve"], env=environment, capture_output=True, text=True)
        assert found.stdout.startswith("-m fastav_plugin.model_overrides.tgi."), found.stderr
        assert find_real({"PATH": path}) == str(real)


def test_parsing_keeps_what_is_not_ours() -> None:
    arguments = ["--quantize", "eetq", "-p", "80", "--json-output", "x=y"]
    assert Command.parse(arguments) == Command(rest=arguments)


@pytest.mark.parametrize("name", ["text-generation-launcher", "text-generation-server"])
def test_without_an_override_the_commands_are_the_real_ones(name: str, tmp_path: Path) -> None:
    """Not even Python is started: the first line of the real ones names none that works."""
    shown = 'echo "$FASTAV_MODEL_OVERRIDE: $*"; exit 7\n'
    executable(tmp_path / name, "#!/bin/sh\n" + shown)
    if name.endswith("launcher"):
        executable(tmp_path / "text-generation-server", "#!/nowhere/python\n")
    environment = {"PATH": f"{ROOT}/deploy/tgi/shims:{tmp_path}:/usr/bin:/bin"}
    found = subprocess.run(
        [name, "serve", "a b", "--port=1"], env=environment, capture_output=True, text=True
    )
    assert found.stdout == ": serve a b --port=1\n"
    assert found.returncode == 7


@pytest.mark.parametrize(
    "first",
    [
        "#!{python}\n",
        "#!/usr/bin/env {python}\n",
        "#!/bin/sh\n'''exec' {python} \"$0\" \"$@\"\n' '''\n",
        "#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n",
    ],
)
def test_the_interpreter_is_the_servers_own(first: str, tmp_path: Path) -> None:
    python = executable(tmp_path / "env" / "bin" / "python3", '#!/bin/sh\necho "$0 $*"\n')
    executable(tmp_path / "text-generation-server", first.format(python=python))
    environment = {
        "PATH": f"{ROOT}/deploy/tgi/shims:{tmp_path}:/usr/bin:/bin",
        "FASTAV_MODEL_OVERRIDE": "fastav",
    }
    for command, module, more in [
        ("text-generation-launcher", "launcher", ""),
        ("text-generation-server", "startup", f"{tmp_path}/text-generation-server "),
    ]:
        found = subprocess.run(
            [command, "serve", "m"], env=environment, capture_output=True, text=True
        )
        place = "-P -m fastav_plugin.model_overrides.tgi"
        assert found.stdout == f"{python} {place}.{module} {more}serve m\n", found.stderr


@pytest.mark.parametrize("name", ["text-generation-launcher", "text-generation-server"])
def test_without_a_real_one(name: str) -> None:
    environment = {"PATH": f"{ROOT}/deploy/tgi/shims:/usr/bin:/bin", "FASTAV_MODEL_OVERRIDE": "x"}
    found = subprocess.run([name, "serve"], env=environment, capture_output=True, text=True)
    assert found.returncode == 127
    assert "there is no text-generation-server on PATH" in found.stderr
