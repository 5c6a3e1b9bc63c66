"""Why a broker refuses a client: aiokafka says so in its log alone."""

from __future__ import annotations

import ssl

from aiokafka.conn import create_conn
from aiokafka.errors import (
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from streams.kafka.answers import answered
from streams.settings import Settings


async def refusal(settings: Settings) -> str:
    """Why the first broker refuses this client by TLS or SASL, "" if that is not the trouble."""
    if settings.security_protocol == "PLAINTEXT":
        return ""

    host, _, port = settings.servers[0].rpartition(":")
    try:
        connecting = create_conn(host, int(port), **settings.security())
        (await answered(connecting)).close()
    except (OSError, KafkaError) as error:
        return _explained(error, settings)
    return ""


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
