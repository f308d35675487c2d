"""The Kubernetes manifests: their schemas, what they may do, and that they fit together."""

from __future__ import annotations

import copy
import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from fastav_plugin.model_overrides.tgi.launcher import OPTIONS
from tests.deploy.manifests import SERVE, TGI, Document, built, container, load, of_kind, written

KUBERNETES = SERVE / "kubernetes"
#: Oldest and newest release whose schemas are asked; kubernetes-validate has them all.
RELEASES = ("1.29", "1.37")
#: Options of TGI's own launcher, 3.3.7.
OF_TGI = {"--model-id", "--num-shard", "--hostname", "--port", "--json-output", "--usage-stats"}


@dataclasses.dataclass(frozen=True)
class Server:
    """The manifests of one server.

    Attributes:
        name: of all its objects.
        folders: that hold its manifests.
        overlays: that `kubectl apply -k` takes.
        gpus: of one pod.
        drain: seconds in which requests under way are answered.
    """

    name: str
    folders: tuple[Path, ...]
    overlays: tuple[Path, ...]
    gpus: int
    drain: int

    def documents(self) -> list[Document]:
        return written(*self.folders)


SERVERS = {
    "serve": Server(
        "fastav-serve",
        (KUBERNETES / "server", KUBERNETES / "base"),
        (KUBERNETES / "base", KUBERNETES / "canary", KUBERNETES / "media"),
        gpus=1,
        drain=300,
    ),
    "tgi": Server("fastav-tgi", (TGI / "kubernetes",), (TGI / "kubernetes",), gpus=4, drain=90),
}
OVERLAYS = [overlay for server in SERVERS.values() for overlay in server.overlays]


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Server:
    return SERVERS[request.param]


def check_schema(document: Document, release: str) -> None:
    validate: Any = pytest.importorskip("kubernetes_validate")
    validate.validate(document, release, strict=True)


@pytest.mark.parametrize("release", RELEASES)
def test_schemas(server: Server, release: str) -> None:
    documents = server.documents()
    assert {document["kind"] for document in documents} == {
        *("Deployment", "Service", "HorizontalPodAutoscaler"),
        *("NetworkPolicy", "PodDisruptionBudget"),
    }
    for document in documents:
        check_schema(document, release)


def test_a_schema_refuses_a_wrong_manifest(server: Server) -> None:
    validate: Any = pytest.importorskip("kubernetes_validate")
    wrong = copy.deepcopy(of_kind(server.documents(), "Deployment"))
    container(wrong)["readinesProbe"] = container(wrong).pop("readinessProbe")
    with pytest.raises(validate.ValidationError, match="readinesProbe"):
        check_schema(wrong, RELEASES[0])


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: f"{path.parts[-3]}-{path.name}")
def test_what_kustomize_builds(overlay: Path) -> None:
    documents = built(overlay)
    for document in documents:
        check_schema(document, RELEASES[-1])
    names = [(document["kind"], document["metadata"]["name"]) for document in documents]
    assert len(names) == len(set(names))
    for document in documents:
        if document["kind"] == "HorizontalPodAutoscaler":
            target = document["spec"]["scaleTargetRef"]
            assert (target["kind"], target["name"]) in names


def test_the_objects_name_each_other(server: Server) -> None:
    documents = server.documents()
    assert {document["metadata"]["name"] for document in documents} == {server.name}
    deployment = of_kind(documents, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    ports = {port["name"]: port["containerPort"] for port in container(deployment)["ports"]}

    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    service = of_kind(documents, "Service")["spec"]
    assert service["selector"].items() <= labels.items()
    assert "track" not in service["selector"], "a canary is behind the same Service"
    assert {port["targetPort"] for port in service["ports"]} <= set(ports)
    budget = of_kind(documents, "PodDisruptionBudget")["spec"]
    assert budget["selector"]["matchLabels"].items() <= labels.items()
    target = of_kind(documents, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert target == {
        "apiVersion": deployment["apiVersion"],
        "kind": "Deployment",
        "name": server.name,
    }
    # An update would set the number of pods back to it.
    assert "replicas" not in deployment["spec"]


def test_nothing_goes_out(server: Server) -> None:
    policy = of_kind(server.documents(), "NetworkPolicy")["spec"]
    labels = of_kind(server.documents(), "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert policy["egress"] == []
    (rule,) = policy["ingress"]
    assert [port["port"] for port in rule["ports"]] == ["http"]
    # An empty selector would be everyone.
    for source in rule["from"]:
        assert all(selector["matchLabels"] for selector in source.values())


def test_a_pod_has_no_rights(server: Server) -> None:
    deployment = of_kind(server.documents(), "Deployment")
    pod, running = deployment["spec"]["template"]["spec"], container(deployment)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert running["securityContext"]["allowPrivilegeEscalation"] is False
    assert running["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not re.search(r":latest$|^[^:]+$", running["image"])
    assert running["resources"]["limits"]["nvidia.com/gpu"] == str(server.gpus)
    # Each mount is of a volume; the model's is not written to.
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in running["volumeMounts"]} == set(volumes)
    model = {mount["name"]: mount for mount in running["volumeMounts"]}["model"]
    assert model["readOnly"] is volumes["model"]["persistentVolumeClaim"]["readOnly"] is True


def test_the_served_pod_is_not_root() -> None:
    deployment = of_kind(SERVERS["serve"].documents(), "Deployment")
    pod, running = deployment["spec"]["template"]["spec"], container(deployment)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert running["securityContext"]["readOnlyRootFilesystem"] is True
    user = re.findall(r"(?m)^USER (\d+):(\d+)$", (SERVE / "Dockerfile").read_text())
    context = pod["securityContext"]
    assert user == [(str(context["runAsUser"]), str(context["runAsGroup"]))]
    # The only folder of the image that is written to.
    (home,) = re.findall(r"HOME=(\S+)", (SERVE / "Dockerfile").read_text())
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in running["volumeMounts"]}
    assert "emptyDir" in mounts[home]


def test_probes_and_the_end(server: Server) -> None:
    deployment = of_kind(server.documents(), "Deployment")
    pod, running = deployment["spec"]["template"]["spec"], container(deployment)
    ports = {port["name"] for port in running["ports"]}
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert running[name]["httpGet"]["path"] == "/health"
        assert running[name]["httpGet"]["port"] in ports

    def patience(name: str) -> int:
        return int(running[name]["periodSeconds"] * running[name]["failureThreshold"])

    assert patience("startupProbe") >= 1800
    assert patience("readinessProbe") < patience("livenessProbe")
    before = int(running["lifecycle"]["preStop"]["exec"]["command"][1])
    assert before > patience("readinessProbe") / 3 - 1
    assert pod["terminationGracePeriodSeconds"] >= before + server.drain


def test_shards_have_a_gpu_each() -> None:
    running = container(of_kind(SERVERS["tgi"].documents(), "Deployment"))
    arguments = running["args"]
    shards = arguments[arguments.index("--num-shard") + 1]
    assert shards == running["resources"]["limits"]["nvidia.com/gpu"] == "4"
    port = arguments[arguments.index("--port") + 1]
    assert [str(port["containerPort"]) for port in running["ports"]] == [port]
    assert int(port) > 1024, "without capabilities no lower port is open"
    assert {"name": "HF_HUB_OFFLINE", "value": "1"} in running["env"]
    assert {word for word in arguments if word.startswith("--")} == {"--model-override"} | OF_TGI
    assert "--model-override" in OPTIONS
    assert running["image"] == load(TGI / "compose.yaml")["services"]["tgi"]["image"]
    folder = arguments[arguments.index("--model-id") + 1]
    assert folder in {mount["mountPath"] for mount in running["volumeMounts"]}
    assert "/dev/shm" in {mount["mountPath"] for mount in running["volumeMounts"]}


def test_a_canary_differs_by_its_method() -> None:
    """Beside the name, the label of the track and the number of pods."""
    (control,) = built(KUBERNETES / "canary")
    pruned = of_kind(built(KUBERNETES / "base"), "Deployment")
    ours, theirs = container(pruned)["args"], container(control)["args"]
    assert [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]] == [
        ("fastav+divprune", "none")
    ]
    assert ours.index("fastav+divprune") == ours.index("--method") + 1
    assert control["spec"].pop("replicas") == 3
    tracks = {"pruned": pruned, "control": control}
    for track, deployment in tracks.items():
        container(deployment).pop("args")
        assert deployment["metadata"].pop("name")
        spec = deployment["spec"]
        for labels in (
            deployment["metadata"]["labels"],
            spec["selector"]["matchLabels"],
            spec["template"]["metadata"]["labels"],
        ):
            assert labels.pop("track") == track
    assert control == pruned


def test_a_folder_of_media() -> None:
    deployment = of_kind(built(KUBERNETES / "media"), "Deployment")
    arguments, mounts = container(deployment)["args"], container(deployment)["volumeMounts"]
    folder = arguments[arguments.index("--media-dir") + 1]
    (mount,) = (mount for mount in mounts if mount["mountPath"] == folder)
    assert mount["readOnly"] is True
    volumes = deployment["spec"]["template"]["spec"]["volumes"]
    (volume,) = (volume for volume in volumes if volume["name"] == mount["name"])
    assert volume["persistentVolumeClaim"]["readOnly"] is True
