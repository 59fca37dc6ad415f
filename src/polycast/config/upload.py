"""Where recorded files are uploaded to: ``s3://bucket/prefix?endpoint=https://host:9000&region=us-east-1``."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from polycast.config.values import InvalidValueError

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", re.ASCII)
_OPTIONS = ("endpoint", "region")


class UploadAddress(NamedTuple):
    """A place in an object storage."""

    bucket: str
    prefix: str
    """What the names of all objects begin with, without slashes around it; may be empty."""
    endpoint: str
    """URL of the server; empty for that of AWS."""
    region: str
    """Empty: that of the environment, or us-east-1."""


def parse_upload_address(text: str) -> UploadAddress:
    """Return the parts of an address. Raises InvalidValueError."""
    try:
        parts = urlsplit(text)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise InvalidValueError(f"'{text}' is not a valid address") from None
    if parts.scheme != "s3" or not _BUCKET.fullmatch(parts.netloc) or parts.fragment:
        raise InvalidValueError(
            f"'{text}' is not an address such as 's3://bucket/prefix'; credentials are in the environment"
        )
    unknown = next((name for name in options if name not in _OPTIONS), None)
    if unknown is not None:
        raise InvalidValueError(f"'{text}' has an unknown option: {unknown}")
    endpoint = options.get("endpoint", "")
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise InvalidValueError(f"the endpoint '{endpoint}' is not a URL such as 'https://host:9000'")
    return UploadAddress(parts.netloc, parts.path.strip("/"), endpoint, options.get("region", ""))
