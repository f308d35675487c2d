"""The image of `fastav serve` and its composition, without a container engine."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from fastav_plugin.cli import app
from fastav_plugin.serving.media.policy import MediaPolicy
from tests.deploy.manifests import ROOT, SERVE, TGI, container, load, of_kind, written

LINES = re.sub(r"\\\n", "", re.sub(r"(?m)^ *#.*\n", "", (SERVE / "Dockerfile").read_text()))
#: Names and arguments of the Dockerfile, lines joined.
INSTRUCTIONS = [
    (line.split(None, 1)[0], line.split(None, 1)[1]) for line in LINES.splitlines() if line.strip()
]
COMPOSE: Any = load(SERVE / "compose.yaml")


def arguments_of(name: str) -> list[str]:
    return [argument for found, argument in INSTRUCTIONS if found == name]


def program(name: str) -> str:
    """Path of a program beside Python or on PATH."""
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def variables(text: str) -> str:
    """Text of the composition with the defaults of its variables."""
    return re.sub(r"\$\{\w+:?[-?]([^}]*)\}", r"\1", text)


def parsed(words: list[str], folder: Path) -> dict[str, Any]:
    """What `fastav serve` reads from a command line; folders of the container stand in `folder`."""
    command: Any = typer.main.get_command(app).get_command(None, "serve")  # type: ignore[attr-defined]
    (folder / "media").mkdir(exist_ok=True)
    words = [str(folder / "media") if word == "/media" else word for word in words]
    with command.make_context("serve", words) as context:
        assert not context.args
        return dict(context.params)


@pytest.mark.parametrize("file", [SERVE / "Dockerfile", TGI / "Dockerfile"])
def test_hadolint(file: Path) -> None:
    done = subprocess.run([program("hadolint"), str(file)], capture_output=True, text=True)
    assert not done.returncode, done.stdout


def test_shell() -> None:
    command = program("shellcheck")
    assert len(arguments_of("RUN")) == 3
    for run in arguments_of("RUN"):
        # Without it only the last command of several could fail the build.
        assert ";" not in run or run.startswith("set -eu; ")
        done = subprocess.run(
            [command, "--shell=sh", "-"],
            input=f"{run}\n",
            capture_output=True,
            text=True,
        )
        assert not done.returncode, done.stdout


def test_what_it_is_built_from() -> None:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    rooms = {line.split(" = ")[1] for line in parser["options"]["package_dir"].split("\n") if line}
    copied: set[str] = set()
    for argument in arguments_of("COPY"):
        if not argument.startswith("--from"):
            *sources, _ = argument.split()
            copied |= set(sources)
    assert rooms | {"setup.cfg", "pyproject.toml", "README.md", "LICENSE"} <= copied
    assert all((ROOT / source).exists() for source in copied)
    ignored = (SERVE / "Dockerfile.dockerignore").read_text().splitlines()
    assert copied == {line[1:] for line in ignored if line.startswith("!")}
    (extras,) = re.findall(r'"\.\[([\w,]+)\]"', LINES)
    assert set(extras.split(",")) <= set(parser["options.extras_require"])
    assert "--constraint constraints.txt" in LINES


def test_the_base_is_exact() -> None:
    (base,) = arguments_of("ARG")
    assert re.fullmatch(r"BASE=\S+:\d+\.\d+\.\d+-\S+|BASE=\S+@sha256:[0-9a-f]{64}", base)
    assert {argument.split()[0] for argument in arguments_of("FROM")} == {"${BASE}"}


def test_it_runs_without_root() -> None:
    last = [name for name, _ in INSTRUCTIONS]
    (user,) = arguments_of("USER")
    assert all(int(number) >= 10000 for number in user.split(":"))
    assert last.index("USER") > max(i for i, name in enumerate(last) if name == "RUN")
    assert re.search(rf"useradd --uid {user.split(':')[0]} --gid {user.split(':')[1]} ", LINES)
    assert "HF_HUB_OFFLINE=1" in LINES


def test_the_command_of_the_image(tmp_path: Path) -> None:
    entry, command = json.loads(arguments_of("ENTRYPOINT")[0]), json.loads(arguments_of("CMD")[0])
    assert entry == ["fastav", "serve"]
    read = parsed(command, tmp_path)
    assert (read["model"], read["host"]) == ("/model", "0.0.0.0")
    assert arguments_of("EXPOSE") == [str(read["port"])]
    (check,) = arguments_of("HEALTHCHECK")
    (test,) = re.findall(r"CMD (\[.*\])$", check)
    address = f"http://127.0.0.1:{read['port']}/health"
    assert address in json.loads(test)[2]
    compile(json.loads(test)[2], "healthcheck", "exec")


@pytest.mark.parametrize("name", ["serve", "control"])
def test_compose(name: str, tmp_path: Path) -> None:
    service = COMPOSE["services"][name]
    read = parsed([variables(word) for word in service["command"]], tmp_path)
    method = "none" if name == "control" else "fastav+divprune"
    assert (read["method"], read["host"], read["max_batch"]) == (method, "0.0.0.0", 32)
    assert (read["prefill_per_step"], read["max_waiting"]) == (1, 64)
    folders = [variables(volume).split(":") for volume in service["volumes"]]
    assert {parts[-2] for parts in folders} == {"/model", "/media"}
    assert all(parts[-1] == "ro" for parts in folders)
    (port,) = service["ports"]
    address, _, inside = variables(port).split(":")
    assert (address, inside) == ("127.0.0.1", str(read["port"]))
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["tmpfs"] == ["/tmp:mode=1777,exec"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service.get("profiles", []) == (["canary"] if name == "control" else [])


def test_the_services_differ_by_their_method() -> None:
    ours, theirs = (COMPOSE["services"][name] for name in ("serve", "control"))
    different = [p for p in zip(ours["command"], theirs["command"], strict=True) if p[0] != p[1]]
    assert different == [("${METHOD:-fastav+divprune}", "none")]
    assert set(ours) ^ set(theirs) == {"build", "profiles"}
    context = (SERVE / ours["build"]["context"]).resolve()
    assert context == ROOT
    assert (context / ours["build"]["dockerfile"]) == SERVE / "Dockerfile"


def test_no_host_is_allowed_by_default() -> None:
    deployment = of_kind(written(SERVE / "kubernetes" / "server"), "Deployment")
    environments = [
        {name: variables(value) for name, value in COMPOSE["x-server"]["environment"].items()},
        {variable["name"]: variable["value"] for variable in container(deployment)["env"]},
    ]
    for environment in environments:
        (host,) = MediaPolicy.from_environment(environment).allowed_hosts
        # RFC 2606: it will never exist.
        assert host.endswith(".invalid")


def test_options_of_the_pod(tmp_path: Path) -> None:
    deployment = of_kind(written(SERVE / "kubernetes" / "server"), "Deployment")
    running = container(deployment)
    read = parsed(running["args"], tmp_path)
    assert read["method"] == "fastav+divprune"
    assert [port["containerPort"] for port in running["ports"]] == [read["port"]]
    assert read["host"] == "0.0.0.0"
    assert read["model"] in {mount["mountPath"] for mount in running["volumeMounts"]}
    assert running["image"] == COMPOSE["services"]["serve"]["image"]
    # The autoscaler starts a pod before the batch is full and before requests are turned away.
    scaler = of_kind(written(SERVE / "kubernetes" / "base"), "HorizontalPodAutoscaler")
    wanted = {
        metric["pods"]["metric"]["name"]: int(metric["pods"]["target"]["averageValue"])
        for metric in scaler["spec"]["metrics"]
    }
    assert wanted["fastav_running_requests"] < read["max_batch"]
    assert wanted["fastav_waiting_requests"] < read["max_waiting"]


def test_the_page_names_what_there_is() -> None:
    page = (SERVE / "README.md").read_text()
    assert page.count("\n") <= 100
    variables_of = set(re.findall(r"\$\{(\w+)", (SERVE / "compose.yaml").read_text()))
    assert not {name for name in variables_of if f"`{name}`" not in page} - {"MODEL"}
    for line in re.findall(r"(?m)^(?:docker|kubectl|MODEL=).*$", page):
        for word in shlex.split(line.removesuffix("\\")):
            if word.startswith("deploy/"):
                assert (ROOT / word).exists(), word
