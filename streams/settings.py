"""The settings of the worker and the commands, from a TOML file and the environment, which wins."""

from __future__ import annotations

import ssl
import tomllib
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from replay.addresses import is_address

ENVIRONMENT_PREFIX = "METERWATCH_"
FILE_VARIABLE = "METERWATCH_SETTINGS"  # names the file
DEFAULT_FILE = Path("meterwatch.toml")

PORT_LIMIT = 65_536  # ports are below it

Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=31_536_000)]  # a year at most
Port = Annotated[int, msgspec.Meta(ge=0, lt=PORT_LIMIT)]


class SettingsError(ValueError):
    """A setting is unknown, of the wrong type or out of its range; says which and where it came from."""


class Secret:
    """A text that is shown only by `reveal`.

    >>> Secret("x")
    Secret('***')
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return "***"

    def reveal(self) -> str:
        """The text itself."""
        return self._text


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings with their defaults; ``METERWATCH_BROKERS`` in the environment sets ``brokers``, and so on."""

    brokers: str = "127.0.0.1:9092"  # host:port, several with commas
    group: str = "meterwatch"  # the consumer group that shares the partitions
    # A lasting name of this worker: restarted, it has its partitions back at once.
    instance: str = ""
    prefix: str = ""  # before every topic's name
    partitions: Positive = 8  # of every topic that is keyed by area
    replication: Positive = 1
    zone: str = "Asia/Shanghai"  # in which days end
    interval: Positive = 900  # seconds between a meter's readings, usually
    # Whose law rules judge by, where they have its limits.
    voltage_limits: Literal["china", "europe", "britain"] = "china"
    # stream: for a worker that is fed history.
    clock: Literal["wall", "stream"] = "wall"
    # Rows of areas that belong to another partition.
    misplaced: Literal["reject", "judge"] = "reject"
    # Rows of areas that the registry has no record of.
    unknown_area: Literal["reject", "judge"] = "reject"
    # When a source topic was created anew; judge: from its beginning.
    topic_changed: Literal["stop", "judge"] = "stop"
    scores: bool = False  # publish the daily scores of all rules on `scores`
    checkpoint_seconds: Seconds = 60.0
    # Without progress on waiting or published records for so long, a worker ends.
    stall_seconds: Seconds = 120.0
    # Silence after which the group drops a worker.
    session_seconds: Annotated[float, msgspec.Meta(ge=6, le=300)] = 45.0
    # The archive commits after so many rows or seconds.
    archive_rows: Positive = 1_000_000
    archive_seconds: Seconds = 300.0
    archive_days: Annotated[int, msgspec.Meta(ge=0)] = 0  # kept; 0: for ever
    # Rows of a shard of a day in the archive; an area stays whole.
    archive_shard_rows: Positive = 1_000_000
    # Space on the archive's disk that must stay free.
    archive_free_gib: Annotated[float, msgspec.Meta(ge=0)] = 5.0
    metrics: bool = True
    metrics_host: str = "127.0.0.1"
    metrics_port: Port = 9464  # 0 takes a free one
    # URL of a collector of OpenTelemetry, to which a worker sends spans; "": none.
    traces: str = ""
    # Signs what `sink webhook` posts; whsec_ and Base64, or any text.
    webhook_secret: Secret = Secret("")
    log_format: Literal["text", "json"] = "text"  # of the worker
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = (
        "PLAINTEXT"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: str = ""
    sasl_password: Secret = Secret("")
    ssl_cafile: str = ""
    ssl_certfile: str = ""
    ssl_keyfile: str = ""
    ssl_key_password: Secret = Secret("")
    # The schema registry of a mapping, where it asks for a name.
    schema_registry_username: str = ""
    schema_registry_password: Secret = Secret("")

    def __post_init__(self) -> None:
        if not self.group:
            raise ValueError("`group` is empty")
        if not self.servers:
            raise ValueError("`brokers` names no broker")
        for server in self.servers:
            host, _, port = server.rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) < PORT_LIMIT:
                raise ValueError(f"`brokers` has {server!r}, which is not host:port")

        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(
                f"`zone` is {self.zone!r}, which is not a time zone such as Asia/Shanghai"
            ) from None

        if self.traces and not is_address(self.traces):
            raise ValueError(
                f"`traces` is {self.traces!r}, which is not a URL such as http://collector:4318"
            )
        if self.sasl and not (self.sasl_username and self.sasl_password):
            raise ValueError(
                f"`security_protocol` {self.security_protocol} needs `sasl_username` and `sasl_password`"
            )
        if self.ssl_certfile and not self.ssl_keyfile:
            raise ValueError("`ssl_certfile` needs `ssl_keyfile`")

    @property
    def servers(self) -> list[str]:
        """The brokers, each as host:port."""
        names = (name.strip() for name in self.brokers.split(","))
        return [name for name in names if name]

    @property
    def sasl(self) -> bool:
        """True if the brokers ask for a name and a password."""
        return self.security_protocol.startswith("SASL")

    def ssl_context(self) -> ssl.SSLContext | None:
        """The context for TLS to the brokers, None without TLS. Raises SettingsError if a file cannot be used."""
        if not self.security_protocol.endswith("SSL"):
            return None

        try:
            context = ssl.create_default_context(cafile=self.ssl_cafile or None)
            if self.ssl_certfile:
                context.load_cert_chain(
                    self.ssl_certfile,
                    self.ssl_keyfile,
                    self.ssl_key_password.reveal() or None,
                )
        except OSError as error:
            raise SettingsError(
                f"TLS: `ssl_cafile`, `ssl_certfile` or `ssl_keyfile` cannot be used: {error}"
            ) from None
        return context

    def security(self) -> dict[str, Any]:
        """The keyword arguments for SASL and TLS of both aiokafka and kafka-python."""
        arguments: dict[str, Any] = {
            "security_protocol": self.security_protocol,
            "ssl_context": self.ssl_context(),
        }
        if self.sasl:
            arguments |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password.reveal(),
            }
        return arguments

    @property
    def schema_registry_authorization(self) -> str:
        """The header of HTTP that a schema registry asks for; "" without a name."""
        if not self.schema_registry_username:
            return ""
        password = self.schema_registry_password.reveal()
        pair = f"{self.schema_registry_username}:{password}"
        return f"Basic {b64encode(pair.encode()).decode()}"

    def client(self) -> dict[str, Any]:
        """The keyword arguments of every aiokafka client."""
        return {"bootstrap_servers": self.servers} | self.security()

    def topic(self, name: str) -> str:
        """The name of a topic on the brokers."""
        return self.prefix + name


def load(environment: Mapping[str, str], file: Path | None = None) -> Settings:
    """Settings from a file, or meterwatch.toml if there is one, and the environment. Raises SettingsError."""
    if file is None and environment.get(FILE_VARIABLE):
        file = Path(environment[FILE_VARIABLE])
    values = _read(file or DEFAULT_FILE, must=file is not None)
    sources = {name: str(file or DEFAULT_FILE) for name in values}
    for key, value in environment.items():
        if key.startswith(ENVIRONMENT_PREFIX) and key != FILE_VARIABLE:
            name = key.removeprefix(ENVIRONMENT_PREFIX).lower()
            values[name] = value
            sources[name] = key

    unknown = sorted(values.keys() - set(Settings.__struct_fields__))
    if unknown:
        faults = (f"{sources[name]}: there is no setting `{name}`" for name in unknown)
        raise SettingsError("; ".join(faults))
    try:
        return msgspec.convert(values, Settings, strict=False, dec_hook=_secret)
    except msgspec.ValidationError as error:
        text = str(error).replace("`$.", "`")
        faulty = next((name for name in sources if f"`{name}`" in text), "")
        source = sources.get(faulty, "settings")
        # A sentence of Settings itself is about more than the value.
        choices = _choices(faulty) if text.endswith(f"at `{faulty}`") else ()
        allowed = f"; it may be {', '.join(choices)}" if choices else ""
        raise SettingsError(f"{source}: {text}{allowed}") from None


def _choices(name: str) -> tuple[str, ...]:
    """The values that a setting may have, none if it has no list of them."""
    kind = get_type_hints(Settings)[name]
    return get_args(kind) if get_origin(kind) is Literal else ()


def _read(file: Path, *, must: bool) -> dict[str, Any]:
    """The values of a file; none if it is missing and need not exist. Raises SettingsError."""
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        if must:
            raise SettingsError(f"{file}: there is no such file") from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{file}: {error}") from None


def _secret(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise TypeError("Expected a text")
