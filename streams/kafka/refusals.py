"""Why a broker refuses a client: aiokafka says so in its log alone."""

from __future__ import annotations

import asyncio
import os
import ssl

from aiokafka.conn import create_conn
from aiokafka.errors import (
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from streams.kafka.answers import answered
from streams.settings import Settings

REACH_SECONDS = 5.0  # that a connection may take


async def refusal(settings: Settings) -> str:
    """Why the first broker refuses this client by TLS or SASL, "" if that is not the trouble."""
    if settings.security_protocol == "PLAINTEXT":
        return ""

    try:
        connecting = create_conn(*_first_server(settings), **settings.security())
        (await answered(connecting)).close()
    except (OSError, KafkaError) as error:
        return _explained(error, settings)
    return ""


async def unreachable(settings: Settings) -> str:
    """Why the first broker cannot be connected to, "" if it can."""
    try:
        connecting = asyncio.open_connection(*_first_server(settings))
        _, writer = await asyncio.wait_for(connecting, REACH_SECONDS)
    except TimeoutError:
        return f"no connection within {REACH_SECONDS:g} s"
    except OSError as error:
        number = error.errno or 0  # below 0 if it is of a name
        return os.strerror(number) if number > 0 else error.strerror or str(error)
    writer.close()
    return ""


def _first_server(settings: Settings) -> tuple[str, int]:
    """Host and port of the first broker; an address of IPv6 stands in brackets."""
    host, _, port = settings.servers[0].rpartition(":")
    return host.strip("[]"), int(port)


def _explained(error: Exception, settings: Settings) -> str:
    """A refusal in the words of the settings, "" if the error is none."""
    match error:
        case SaslAuthenticationFailed():
            return "it does not know `sasl_username` with this `sasl_password`"
        case UnsupportedSaslMechanismError():
            return f"it takes no `sasl_mechanism` {settings.sasl_mechanism}"

        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted, see `ssl_cafile`: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS fails: {error.reason}"
        case ConnectionResetError():
            return (
                f"it ends what `security_protocol` {settings.security_protocol} begins"
            )
        case _:
            return ""
