"""The recipes for connectors: they parse, and name topics and fields that there are."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.topics import ALERTS_TOPIC, ALL_TOPICS, PAYMENTS_TOPIC, READS_TOPIC

PROJECT_ROOT = Path(__file__).parents[1]
CONNECT_FOLDER = PROJECT_ROOT / "deploy" / "connect"


def fields(record: str) -> set[str]:
    """The fields of a record, as its schema has them."""
    path = PROJECT_ROOT / "schemas" / "json" / f"{record}.schema.json"
    return set(json.loads(path.read_text())["properties"])


def recipe(name: str) -> Any:
    text = (CONNECT_FOLDER / name).read_text()
    if name.endswith(".yaml"):
        return yaml.safe_load(text)
    return json.loads(text) if name.endswith(".json") else tomllib.loads(text)


def test_redpanda_makes_readings_and_hashes_as_the_workers_do():
    found = recipe("redpanda-readings-in.yaml")
    [processor] = found["pipeline"]["processors"]
    assigned = set(re.findall(r"^root\.(\w+) =", processor["mapping"], re.MULTILINE))
    assert {"area", "meter", "at"} < assigned <= fields("reading")
    output = found["output"]["kafka_franz"]
    assert output["topic"] == READS_TOPIC
    assert output["partitioner"] == "murmur2_hash"
    assert output["key"] == '${! meta("area") }'


def test_redpanda_reads_alerts():
    found = recipe("redpanda-alerts-out.yaml")
    assert found["input"]["kafka_franz"]["topics"] == [ALERTS_TOPIC]
    [processor] = found["pipeline"]["processors"]
    used = set(re.findall(r"this\.(\w+)", processor["mapping"]))
    assert used
    assert used <= fields("alert")


def test_kafka_connect_makes_payments():
    config = recipe("kafka-connect-jdbc-source.json")["config"]
    columns = set(re.findall(r"AS (\w+)", config["query"]))
    assert {"customer", "area", "at", "payment"} < columns <= fields("payment")
    assert config["topic.prefix"] == PAYMENTS_TOPIC
    dropped = config["transforms.drop.exclude"]
    assert f"SELECT {dropped}," in config["query"]
    assert dropped not in fields("payment")
    assert config["transforms"].split(",") == ["key", "area", "drop"]


def test_kafka_connect_takes_alerts():
    config = recipe("kafka-connect-jdbc-sink.json")["config"]
    assert config["topics"] == ALERTS_TOPIC
    assert {config["pk.fields"], config["transforms.flat.exclude"]} <= fields("alert")


def test_telegraf_makes_readings():
    found = recipe("telegraf.conf")
    [output] = found["outputs"]["kafka"]
    assert output["topic"] == READS_TOPIC
    [consumer] = found["inputs"]["mqtt_consumer"]
    [parsed] = consumer["json_v2"]
    given = {field["path"] for field in parsed["field"]}
    merged = set(re.findall(r'"(\w+)":', output["json_transformation"]))
    assert merged == {"area", "meter", "at"}
    assert given | merged <= fields("reading")


@pytest.mark.parametrize(
    "path", sorted(CONNECT_FOLDER.iterdir()), ids=lambda path: path.name
)
def test_every_recipe_is_listed_and_names_no_other_topic(path: Path):
    page = (CONNECT_FOLDER / "README.md").read_text()
    assert path.name == "README.md" or f"`{path.name}`" in page
    known = {topic.name for topic in ALL_TOPICS}
    named = re.findall(r"\btopics?\W+([a-z]+\.[a-z]+)\b", path.read_text())
    assert set(named) <= known
