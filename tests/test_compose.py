"""docker-compose.yml and the Dockerfile, checked as far as possible without a Docker engine."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams import settings
from streams.kafka.broker import Broker, jars, program

PROJECT_ROOT = Path(__file__).parents[1]
COMPOSE_CONFIG: dict[str, Any] = yaml.safe_load(
    (PROJECT_ROOT / "docker-compose.yml").read_text()
)
COMPOSE_SERVICES: dict[str, dict[str, Any]] = COMPOSE_CONFIG["services"]
SERVICE_KEYS = {"image", "build", "command", "environment", "volumes", "ports"}
SERVICE_KEYS |= {"healthcheck", "depends_on", "restart", "stop_grace_period"}
SERVICE_KEYS |= {"cap_drop", "security_opt", "pids_limit", "read_only", "tmpfs"}
SERVICE_KEYS |= {"mem_limit", "profiles", "entrypoint", "user"}
DOCKERFILE_TEXT = (PROJECT_ROOT / "Dockerfile").read_text()
START_CONDITIONS = {
    "service_started",
    "service_healthy",
    "service_completed_successfully",
}

every_service = pytest.mark.parametrize(
    "service", COMPOSE_SERVICES.values(), ids=COMPOSE_SERVICES
)


def test_the_top_level_is_known():
    assert {key for key in COMPOSE_CONFIG if not key.startswith("x-")} == {
        "name",
        "services",
        "volumes",
    }


@every_service
def test_a_service_is_well_formed(service: dict[str, Any]):
    assert service.keys() <= SERVICE_KEYS
    assert "image" in service
    assert all(isinstance(value, str) for value in service["environment"].values())
    assert all(isinstance(word, str) for word in service.get("command", []))
    assert service.get("restart", "no") in {
        "no",
        "always",
        "on-failure",
        "unless-stopped",
    }


def has_health_check(service: dict[str, Any]) -> bool:
    """Whether a service has a check of its own, or that of the project's image."""
    check = service.get("healthcheck")
    if check:
        return not check.get("disable", False)
    return "build" in service and "HEALTHCHECK" in DOCKERFILE_TEXT


@every_service
def test_a_service_may_do_as_little_as_it_needs(service: dict[str, Any]):
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"]
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    is_broker = service["image"].startswith("apache/kafka")
    assert service.get("read_only", False) is not is_broker  # it writes its settings


def test_what_watches_the_worker_is_started_on_demand():
    watching = {"prometheus", "alertmanager", "grafana"}
    for name, service in COMPOSE_SERVICES.items():
        assert service.get("profiles", []) == (["watch"] if name in watching else [])


@every_service
def test_condition_a_service_waits_for_can_be_met(service: dict[str, Any]):
    for name, wish in service.get("depends_on", {}).items():
        assert wish["condition"] in START_CONDITIONS
        assert wish["condition"] != "service_healthy" or has_health_check(
            COMPOSE_SERVICES[name]
        )
        assert (
            wish["condition"] != "service_completed_successfully"
            or "restart" not in COMPOSE_SERVICES[name]
        )


@every_service
def test_a_health_check_is_a_command_with_times(service: dict[str, Any]):
    check = service.get("healthcheck")
    if check and check != {"disable": True}:
        assert check.keys() == {"test", "interval", "timeout", "retries"}
        assert check["test"][0] == "CMD"
        assert all(isinstance(word, str) for word in check["test"])
        assert all(re.fullmatch(r"\d+s", check[key]) for key in ("interval", "timeout"))


@every_service
def test_ports_stay_on_loopback(service: dict[str, Any]):
    assert all(
        re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in service.get("ports", [])
    )


@every_service
def test_mounted_files_exist(service: dict[str, Any]):
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        assert (
            (PROJECT_ROOT / source).exists()
            if source.startswith(".")
            else source in COMPOSE_CONFIG["volumes"]
        )


@every_service
def test_meterwatch_accepts_its_settings(service: dict[str, Any]):
    settings.load(
        {
            key: value
            for key, value in service["environment"].items()
            if key.startswith("METERWATCH_")
        }
    )


def test_prometheus_keeps_what_the_dashboards_look_back_on():
    (kept,) = re.findall(
        r"retention\.time=(\d+)d", " ".join(COMPOSE_SERVICES["prometheus"]["command"])
    )
    panels = (PROJECT_ROOT / "deploy" / "grafana" / "panels.toml").read_text()
    spans = [int(days) for days in re.findall(r'(?:\[|span = ")(\d+)d', panels)]
    assert max(spans) * 2 <= int(kept)


def test_both_brokers_have_one_version():
    image = COMPOSE_SERVICES["kafka"]["image"].removeprefix("apache/kafka:")
    assert (
        f"<version>{image}</version>"
        in (PROJECT_ROOT / "deploy/kafka/pom.xml").read_text()
    )


def test_kafka_accepts_its_settings(tmp_path: Path, broker: Broker):
    """Joined as the image joins them: KAFKA_LOG_DIRS is log.dirs."""
    properties = {
        key.removeprefix("KAFKA_").lower().replace("_", "."): value
        for key, value in COMPOSE_SERVICES["kafka"]["environment"].items()
    } | {"log.dirs": str(tmp_path / "data")}
    joined = tmp_path / "server.properties"
    common = (PROJECT_ROOT / "deploy/kafka/server.properties").read_text()
    joined.write_text(
        common + "".join(f"{key}={value}\n" for key, value in properties.items())
    )
    command = [program("java", "Java"), "-cp", f"{jars()}/*", "kafka.tools.StorageTool"]
    command += ["format", "-t", "5L6g3nShT-eMCtK--X86sw", "-c", str(joined)]
    subprocess.run(command, check=True, capture_output=True)


def test_image_copies_every_package_and_no_missing_file():
    copied = re.findall(
        r"^COPY (?!--from)(.+) \S+$",
        (PROJECT_ROOT / "Dockerfile").read_text(),
        re.MULTILINE,
    )
    sources = {source for line in copied for source in line.split()}
    packages = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["tool"][
        "hatch"
    ]["build"]["targets"]["wheel"]
    allowed = {
        line[1:]
        for line in (PROJECT_ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }

    assert set(packages["packages"]) <= sources
    assert all((PROJECT_ROOT / source).exists() for source in sources)
    assert sources == allowed
