"""Addresses of HTTP."""

from __future__ import annotations

from urllib.parse import urlsplit


def is_address(text: str) -> bool:
    """True if a text is an address of HTTP.

    >>> is_address("http://127.0.0.1:9093"), is_address("https:///alerts"), is_address("http://[a")
    (True, False, False)
    """
    try:
        found = urlsplit(text)
    except ValueError:
        return False
    return found.scheme in {"http", "https"} and bool(found.hostname)
