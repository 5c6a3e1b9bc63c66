"""The deployments for Kubernetes and systemd, checked against published schemas and by systemd itself."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from streams import settings
from tests import dashboards

DEPLOY_FOLDER = Path(__file__).parents[1] / "deploy"
KUBERNETES_FOLDER = DEPLOY_FOLDER / "kubernetes"
KUBERNETES_VERSION = "1.31"
KUSTOMIZE_CONFIG: dict[str, Any] = yaml.safe_load(
    (KUBERNETES_FOLDER / "kustomization.yaml").read_text()
)
LONGEST_STOP_SECONDS = 70  # for a worker's hand-over and leaving its group


def resource(name: str) -> dict[str, Any]:
    """A resource by the name of its file."""
    loaded: dict[str, Any] = yaml.safe_load((KUBERNETES_FOLDER / name).read_text())
    return loaded


@pytest.mark.parametrize("name", KUSTOMIZE_CONFIG["resources"])
def test_a_resource_fits_its_schema(name: str):
    found = resource(name)
    if found["apiVersion"].startswith("monitoring.coreos.com/"):
        assert found["kind"] in {"PodMonitor", "PrometheusRule"}
        assert found["spec"]
        return
    kubernetes_validate.validate(found, KUBERNETES_VERSION, strict=True)


def test_what_kustomize_builds_fits_the_schemas():
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("there is no kubectl here")
    command = [kubectl, "kustomize", str(KUBERNETES_FOLDER)]
    built = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    kinds = set()
    for found in yaml.safe_load_all(built):
        kinds.add(found["kind"])
        if not found["apiVersion"].startswith("monitoring.coreos.com/"):
            kubernetes_validate.validate(found, KUBERNETES_VERSION, strict=True)
    assert {"ConfigMap", "Secret", "StatefulSet", "PodMonitor"} <= kinds


def test_a_wrong_field_does_not_fit():
    found = resource("statefulset.yaml")
    found["spec"]["template"]["spec"]["containers"][0]["readinessProb"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(found, KUBERNETES_VERSION, strict=True)


def test_every_resource_is_listed():
    files = {path.name for path in KUBERNETES_FOLDER.glob("*.yaml")}
    assert files - {"kustomization.yaml"} == set(KUSTOMIZE_CONFIG["resources"])


def test_the_rules_for_the_operator_are_those_of_prometheus():
    assert resource("alert-rules.yaml") == dashboards.operator_rules()


def test_a_worker_accepts_its_settings():
    text = (KUBERNETES_FOLDER / "settings.toml").read_text()
    chosen = tomllib.loads(text)
    environment = {f"METERWATCH_{name.upper()}": str(chosen[name]) for name in chosen}
    assert settings.load(environment).session_seconds == chosen["session_seconds"]


def test_names_that_belong_together_agree():
    pod = resource("statefulset.yaml")["spec"]["template"]
    labels = pod["metadata"]["labels"]
    for name, path in (
        ("service.yaml", ["selector"]),
        ("disruption.yaml", ["selector", "matchLabels"]),
        ("network.yaml", ["podSelector", "matchLabels"]),
        ("pod-monitor.yaml", ["selector", "matchLabels"]),
    ):
        selected = resource(name)["spec"]
        for key in path:
            selected = selected[key]
        assert selected == labels

    (worker,) = pod["spec"]["containers"]
    probes = {
        kind: worker[f"{kind}Probe"]["httpGet"]["path"]
        for kind in ("liveness", "readiness", "startup")
    }
    assert probes == {
        "liveness": "/healthz",
        "readiness": "/readyz",
        "startup": "/healthz",
    }
    assert "cpu" not in worker["resources"]["limits"]
    assert pod["spec"]["terminationGracePeriodSeconds"] > LONGEST_STOP_SECONDS


def test_a_pod_has_only_the_environment_that_is_meant():
    """Kubernetes would set METERWATCH_X_PORT for a Service `meterwatch-x`, and a worker refuses unknown settings."""
    spec = resource("statefulset.yaml")["spec"]["template"]["spec"]
    assert spec["enableServiceLinks"] is False
    assert "initContainers" not in spec  # of a user who may create all topics
    (worker,) = spec["containers"]
    names = [variable["name"] for variable in worker["env"]]
    assert names == ["METERWATCH_SETTINGS", "METERWATCH_INSTANCE"]


def test_pods_hold_as_many_meters_as_their_comment_says():
    text = (KUBERNETES_FOLDER / "statefulset.yaml").read_text()
    (meters,) = re.findall(r"Enough for ([\d,]+) meters", text)
    page = (DEPLOY_FOLDER.parent / "docs" / "scaling.md").read_text()
    (kilobytes,) = re.findall(r"([\d.]+) kB a meter resident", page)
    (megabytes,) = re.findall(r"about (\d+) MB a process", page)
    needed = int(meters.replace(",", "")) * float(kilobytes) * 1e3
    needed += float(megabytes) * 1e6

    (worker,) = resource("statefulset.yaml")["spec"]["template"]["spec"]["containers"]
    assert worker["resources"]["limits"] == {"memory": "2Gi"}
    assert worker["resources"]["requests"]["memory"] == "2Gi"
    assert needed < 2 << 30


def test_the_network_lets_scrapes_in_and_names_and_brokers_out():
    policy = resource("network.yaml")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    allowed = []
    for way, peer in (("ingress", "from"), ("egress", "to")):
        for rule in policy[way]:
            (place,) = rule[peer]
            labels = place["namespaceSelector"]["matchLabels"]
            ports = [port["port"] for port in rule["ports"]]
            allowed.append((way, labels["kubernetes.io/metadata.name"], ports))
    assert allowed == [
        ("ingress", "monitoring", ["metrics"]),
        ("egress", "kube-system", [53, 53]),
        ("egress", "kafka", [9092, 9093]),
    ]


def test_counters_of_a_pod_that_is_moved_go_on():
    (endpoint,) = resource("pod-monitor.yaml")["spec"]["podMetricsEndpoints"]
    assert endpoint["relabelings"] == [
        {"sourceLabels": ["__meta_kubernetes_pod_name"], "targetLabel": "instance"}
    ]


def test_systemd_accepts_the_unit(tmp_path: Path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd here")
    text = (DEPLOY_FOLDER / "systemd" / "meterwatch@.service").read_text()
    unit = tmp_path / "meterwatch@1.service"
    unit.write_text(text.replace("/opt/meterwatch/bin/meterwatch", "/bin/true"))
    done = subprocess.run(
        [analyze, "verify", str(unit)], capture_output=True, text=True, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if unit.name in line]
    assert not complaints


def test_the_unit_gives_a_worker_time_to_hand_over():
    text = (DEPLOY_FOLDER / "systemd" / "meterwatch@.service").read_text()
    options = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    assert int(options["TimeoutStopSec"]) > LONGEST_STOP_SECONDS
    assert options["EnvironmentFile"] == "-/etc/meterwatch/secrets.env"
    assert options["Restart"] == "always"
