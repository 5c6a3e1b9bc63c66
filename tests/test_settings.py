"""Settings: file and environment, clear errors, and secrets that stay secret."""

from __future__ import annotations

import tomllib
from pathlib import Path

import faust
import pytest
from rich.pretty import pretty_repr

from streams.kafka.app import App, credentials
from streams.kafka.metrics import Metrics
from streams.settings import Settings, SettingsError, load

SASL_ENVIRONMENT = {
    "METERWATCH_SECURITY_PROTOCOL": "SASL_SSL",
    "METERWATCH_SASL_USERNAME": "meter",
    "METERWATCH_SASL_PASSWORD": "hush",
}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "meterwatch.toml"


def test_the_environment_wins_over_the_file(file):
    file.write_text('partitions = 4\nzone = "Europe/Berlin"\nmetrics = false\n')
    settings = load({"METERWATCH_PARTITIONS": "16", "HOME": "/"}, file)
    assert (settings.partitions, settings.zone, settings.metrics) == (
        16,
        "Europe/Berlin",
        False,
    )
    assert load({"METERWATCH_SETTINGS": str(file)}).partitions == 4


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"METERWATCH_PARTITIONS": "many"},
            "METERWATCH_PARTITIONS: Expected `int`, got `str` - at `partitions`",
        ),
        (
            {"METERWATCH_PARTITIONS": "0"},
            "METERWATCH_PARTITIONS: Expected `int` >= 1 - at `partitions`",
        ),
        (
            {"METERWATCH_COLOUR": "red"},
            "METERWATCH_COLOUR: there is no setting `colour`",
        ),
        (
            {"METERWATCH_CLOCK": "moon"},
            "METERWATCH_CLOCK: Invalid enum value 'moon' - at `clock`; it may be wall, stream",
        ),
        (
            {"METERWATCH_VOLTAGE_LIMITS": "mars"},
            "METERWATCH_VOLTAGE_LIMITS: Invalid enum value 'mars' - at `voltage_limits`; it may be china, europe",
        ),
        (
            {"METERWATCH_BROKERS": "kafka"},
            "METERWATCH_BROKERS: `brokers` has 'kafka', which is not host:port",
        ),
        (
            {"METERWATCH_BROKERS": "kafka:92000"},
            "METERWATCH_BROKERS: `brokers` has 'kafka:92000', which is not host:port",
        ),
        (
            {"METERWATCH_METRICS_PORT": "94640"},
            "METERWATCH_METRICS_PORT: Expected `int` <= 65535 - at `metrics_port`",
        ),
        (
            {"METERWATCH_STALL_SECONDS": "inf"},
            "METERWATCH_STALL_SECONDS: Expected `float` <= 31536000.0 - at `stall_seconds`",
        ),
        (
            {"METERWATCH_GROUP": ""},
            "METERWATCH_GROUP: `group` is empty",
        ),
        (
            {"METERWATCH_ZONE": "Moon/Sea"},
            "METERWATCH_ZONE: `zone` is 'Moon/Sea', which is not a time zone",
        ),
        (
            {"METERWATCH_TRACES": "collector:4318"},
            "METERWATCH_TRACES: `traces` is 'collector:4318', which is not a URL such as http://collector:4318",
        ),
        (
            {"METERWATCH_TRACES": "http://"},
            "METERWATCH_TRACES: `traces` is 'http://', which is not a URL such as http://collector:4318",
        ),
        (
            {"METERWATCH_TRACES": "http://[collector"},
            "METERWATCH_TRACES: `traces` is 'http://[collector', which is not a URL such as http://collector:4318",
        ),
        (
            {"METERWATCH_SECURITY_PROTOCOL": "SASL_SSL"},
            "METERWATCH_SECURITY_PROTOCOL: `security_protocol` SASL_SSL needs `sasl_username` and `sasl_password`",
        ),
        (
            {"METERWATCH_SETTINGS": "/nowhere.toml"},
            "/nowhere.toml: there is no such file",
        ),
    ],
)
def test_an_error_names_the_setting_and_where_it_came_from(environment, message):
    with pytest.raises(SettingsError) as error:
        load(environment)
    assert str(error.value).startswith(message)
    assert ("; it may be" in str(error.value)) == ("; it may be" in message)


def test_a_file_that_is_no_toml_is_named(file):
    file.write_text("partitions =")
    with pytest.raises(SettingsError, match=r"meterwatch.toml: Invalid value"):
        load({}, file)


def test_secrets_are_never_printed():
    settings = load(SASL_ENVIRONMENT | {"METERWATCH_SSL_KEY_PASSWORD": "quiet"})
    for text in (
        repr(settings),
        str(settings),
        pretty_repr(settings),
        f"{settings.sasl_password}",
    ):
        assert "hush" not in text
        assert "quiet" not in text
    environment = SASL_ENVIRONMENT | {"METERWATCH_PARTITIONS": "x"}
    with pytest.raises(SettingsError) as error:
        load(environment)
    assert "hush" not in str(error.value)


def test_sasl_and_tls_pass_through():
    settings = load(SASL_ENVIRONMENT)
    security = settings.security()
    assert security.pop("ssl_context") is not None
    assert security == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "meter",
        "sasl_plain_password": "hush",
    }

    sasl = credentials(settings)
    assert isinstance(sasl, faust.SASLCredentials)
    assert (sasl.protocol.value, sasl.mechanism.value) == ("SASL_SSL", "SCRAM-SHA-512")
    assert (sasl.username, sasl.password) == ("meter", "hush")
    assert isinstance(
        credentials(load({"METERWATCH_SECURITY_PROTOCOL": "SSL"})), faust.SSLCredentials
    )
    assert credentials(load({})) is None


@pytest.mark.parametrize(
    ("session", "stall"), [("45", "120"), ("6", "1"), ("300", "3600")]
)
def test_the_group_waits_for_a_hand_over_as_long_as_a_worker_may_take(session, stall):
    settings = load(
        {"METERWATCH_SESSION_SECONDS": session, "METERWATCH_STALL_SECONDS": stall}
    )
    conf = App(settings, Metrics()).conf
    assert conf.broker_session_timeout == settings.session_seconds
    assert conf.broker_heartbeat_interval <= min(3, settings.session_seconds / 10)
    assert conf.broker_rebalance_timeout >= settings.stall_seconds
    assert conf.broker_request_timeout > max(
        conf.broker_rebalance_timeout, conf.broker_session_timeout
    )
    assert (
        conf.broker_max_poll_interval
        > conf.broker_rebalance_timeout + settings.stall_seconds
    )


def test_the_session_is_kafkas_own_by_default():
    assert load({}).session_seconds == 45


def test_missing_certificate_is_an_error():
    settings = load(
        {"METERWATCH_SECURITY_PROTOCOL": "SSL", "METERWATCH_SSL_CAFILE": "/nowhere.pem"}
    )
    with pytest.raises(SettingsError, match="TLS: `ssl_cafile`"):
        settings.ssl_context()


def test_example_contains_every_default():
    example = Path(__file__).parents[1] / "deploy" / "meterwatch.toml"
    assert tomllib.loads(example.read_text()).keys() == set(Settings.__struct_fields__)
    loaded, default = load({}, example), Settings()
    assert repr(loaded) == repr(default)
    assert not loaded.sasl_password
    assert not loaded.ssl_key_password
