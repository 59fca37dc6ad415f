"""The kinds of configuration values.

A ``Kind`` parses a value (from YAML, JSON or an environment variable), writes it in the API's JSON form and describes
it for the documentation. Plain YAML scalars arrive as text, so that a password ``0123`` stays as written. Errors that
rtsp-simple-server also has use its texts; all others are InvalidValueError, which are prefixed with the key.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Final, TypeVar

from polycast.config.similar import closest
from polycast.config.values import (
    Duration,
    Encryption,
    InvalidValueError,
    LogDestination,
    LogLevel,
    RecordFormat,
    Size,
    SourceProtocol,
)
from polycast.errors import ConfigurationError
from polycast.security.addresses import IPNetwork, parse_address
from polycast.security.credentials import ARGON2_PREFIX, HASH_PREFIX, is_argon2, is_argon2_text, is_hashed

AUTOMATIC: Final = "auto"
MAXIMUM_WORKERS: Final = 256
MAXIMUM_INTEGER: Final = 2**63 - 1  # the maximum of rtsp-simple-server
SUPPORTED_CREDENTIAL_CHARACTERS: Final = "A-Z,0-9,!,$,(,),*,+,.,;,<,=,>,[,],^,_,-,{,}"
SUPPORTED_LOGIN_CHARACTERS: Final = 'A-Z,0-9,!,$,(,),*,+,.,;,<,=,>,[,],^,_,-,",",@,#,&'
"""As rtsp-simple-server names them."""

_BOOLEANS: Final = {
    **dict.fromkeys(("yes", "true", "on", "y"), True),
    **dict.fromkeys(("no", "false", "off", "n"), False),
}
_ENCRYPTIONS: Final = {
    "no": Encryption.NO,
    "false": Encryption.NO,
    "off": Encryption.NO,
    "optional": Encryption.OPTIONAL,
    "strict": Encryption.STRICT,
    "yes": Encryption.STRICT,
    "true": Encryption.STRICT,
    "on": Encryption.STRICT,
}
_INTEGER = re.compile(r"[-+]?[0-9]{1,19}|0x[0-9a-fA-F]{1,16}|0o[0-7]{1,21}", re.ASCII)
_CREDENTIAL = re.compile(r"[a-zA-Z0-9!$()*+.;<=>\[\]^_\-{}]+", re.ASCII)
_LOGIN = re.compile(r"[a-zA-Z0-9!$()*+.;<=>\[\]^_\-{}@#&]+", re.ASCII)
_SHORTEST_PASSPHRASE: Final = 10
_LONGEST_PASSPHRASE: Final = 79  # bytes; SRT allows no others
_HEXADECIMAL_HASH = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_HASH_SIZE: Final = 32  # bytes of SHA-256
_HASH_RECIPE: Final = "write sha256: followed by the output of: echo -n 'text' | openssl dgst -sha256 -binary | base64"
_HOST_NAME = re.compile(r"\*|(?:\*\.)?[a-zA-Z0-9_-]+(?:\.[a-zA-Z0-9_-]+)*", re.ASCII)
_NEXT_SOURCE = re.compile(r" *,(?= *[a-z]+://)")

_TEXT_LIST_SCHEMA: Final = {"type": "array", "items": {"type": "string"}}

Json = Any
_Choice = TypeVar("_Choice", bound=StrEnum)
_Item = TypeVar("_Item")


class Kind:
    """One kind of value. ``parse`` raises ConfigurationError; ``dump`` returns the API's JSON form."""

    __slots__ = ("dump", "label", "parse", "schema")

    def __init__(
        self, label: str, parse: Callable[[Json], Any], dump: Callable[[Any], Json], schema: Mapping[str, Json]
    ) -> None:
        self.label = label
        self.parse = parse
        self.dump = dump
        self.schema = schema

    def from_text(self, text: str) -> Any:
        """Parse the text of an environment variable. Raises ConfigurationError."""
        return self.parse(text)


def check_address(text: str) -> None:
    """Raise InvalidValueError if a text is not an address to listen on."""
    try:
        parse_address(text)
    except ValueError as error:
        raise InvalidValueError(str(error)) from None


def parse_network(text: str) -> IPNetwork:
    """Parse an IP address or a CIDR range; host bits of a range are cleared. Raises ConfigurationError."""
    address, slash, prefix = text.partition("/")
    try:
        parsed = ip_address(address)
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped and not slash:
            parsed = parsed.ipv4_mapped
        if "%" in address or (slash and not (prefix.isascii() and prefix.isdigit())):
            raise ValueError
        return ip_network(f"{parsed}{slash}{prefix}", strict=False)
    except ValueError as error:
        raise ConfigurationError(
            f"unable to parse IP/CIDR '{text}' (write an address or a range, such as 192.168.1.5 or 10.0.0.0/8)"
        ) from error


def _boolean(value: Json) -> bool:
    if isinstance(value, bool):
        return value
    known = _BOOLEANS.get(value.lower()) if isinstance(value, str) else None
    if known is None:
        raise InvalidValueError(f"{_quote(value)} is neither yes nor no")
    return known


def _integer(value: Json) -> int:
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value, 0) if value[:2] in ("0x", "0o") else int(value)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > MAXIMUM_INTEGER:
        raise InvalidValueError(f"{_quote(value)} is not a whole number")
    return value


def _workers(value: Json) -> int:
    number = 0 if value == AUTOMATIC else _integer(value)
    if not 0 <= number <= MAXIMUM_WORKERS or (number == 0 and value != AUTOMATIC):
        raise InvalidValueError(f"{_quote(value)} is neither a number from 1 to {MAXIMUM_WORKERS} nor {AUTOMATIC}")
    return number


def _text(value: Json) -> str:
    if not isinstance(value, str):
        raise InvalidValueError(f"{_quote(value)} is not a text")
    return str(value)


def _address(value: Json) -> str:
    text = _text(value)
    if text:
        check_address(text)
    return text


def _credential(value: Json) -> str:
    text = _text(value)
    if is_hashed(text) or text.startswith("$argon2"):
        _check_hash(text)
    elif text and not _CREDENTIAL.fullmatch(text):
        # Only the first one: this is a secret.
        character = next(character for character in text if not _CREDENTIAL.fullmatch(character))
        shown = "a blank" if character == " " else repr(character)
        raise ConfigurationError(
            f"contains unsupported characters (supported are {SUPPORTED_CREDENTIAL_CHARACTERS}) "
            f"besides a-z: {shown}; any other text can be given as its hash: {_HASH_RECIPE}"
        )
    return text


def _login(value: Json) -> str:
    text = _text(value)
    if is_hashed(text) or text.startswith("$argon2"):
        _check_hash(text)
    elif text and not _LOGIN.fullmatch(text):
        raise ConfigurationError(
            "credential contains unsupported characters. Supported are: "
            f"{SUPPORTED_LOGIN_CHARACTERS} (any other text can be given as its hash: {_HASH_RECIPE})"
        )
    return text


def secret_kind(key: str) -> Kind:
    """Return the kind of a secret that clients send as it is: it cannot be hashed."""

    def parse(value: Json) -> str:
        text = _text(value)
        if text and not _LOGIN.fullmatch(text):
            raise ConfigurationError(
                f"'{key}' contains unsupported characters. Supported are: {SUPPORTED_LOGIN_CHARACTERS}"
            )
        return text

    return Kind("text", parse, str, {"type": ["string", "number", "boolean"]})


def passphrase_kind(key: str) -> Kind:
    """Return the kind of a passphrase of SRT."""

    def parse(value: Json) -> str:
        text = _text(value)
        if text and not _SHORTEST_PASSPHRASE <= len(text.encode()) <= _LONGEST_PASSPHRASE:
            limits = f"between {_SHORTEST_PASSPHRASE} and {_LONGEST_PASSPHRASE} characters"
            raise ConfigurationError(f"invalid '{key}': must be {limits}")
        return text

    return Kind("text", parse, str, {"type": "string", "pattern": "^(.{10,79})?$"})


def _check_hash(text: str) -> None:
    """Raise InvalidValueError if no user or password can match a hash; its text does not contain the hash."""
    if text.startswith("$argon2"):
        raise InvalidValueError(f"an argon2 hash begins with {ARGON2_PREFIX}")
    if not is_argon2(text):
        _check_sha256(text.removeprefix(HASH_PREFIX))
    elif not is_argon2_text(text.removeprefix(ARGON2_PREFIX)):
        raise InvalidValueError(
            "invalid argon2 hash (write argon2:$argon2id$v=19$m=65536,t=3,p=1$salt$hash; argon2i is possible, too)"
        )


def _check_sha256(text: str) -> None:
    if _HEXADECIMAL_HASH.fullmatch(text):
        raise InvalidValueError(f"the hash is hexadecimal; it must be base64: {_HASH_RECIPE}")
    try:
        is_valid = len(data := b64decode(text, validate=True)) == _HASH_SIZE and b64encode(data).decode() == text
    except ValueError:
        is_valid = False
    if not is_valid:
        raise InvalidValueError(f"the hash is not the base64 of a SHA-256 hash (44 characters): {_HASH_RECIPE}")


def _number_text(value: Json) -> str:
    """A number without its unit becomes text, so that the error can show the correct form."""
    return str(value) if isinstance(value, float) or type(value) is int else _text(value)


def _duration(value: Json) -> Duration:
    return Duration.parse(_number_text(value))


def _size(value: Json) -> Size:
    return Size.parse(_number_text(value))


def _duration_with_days(value: Json) -> Duration:
    return Duration.parse_with_days(_number_text(value))


def _duration_or_empty(value: Json) -> Duration:
    return Duration(0) if value == "" else _duration_with_days(value)


def _dump_or_empty(value: Duration) -> Json:
    return value.text_with_days() if value else ""


def _bytes(value: Json) -> Size:
    text = _number_text(value)
    return Size.parse(f"{text}B" if text.isascii() and text.isdigit() else text)


def _encryption_kind(message: str) -> Kind:
    def parse(value: Json) -> Encryption:
        text = str(value).lower() if isinstance(value, bool) else _text(value)
        known = _ENCRYPTIONS.get(text)
        if known is None:
            raise ConfigurationError(message % text + _allowed(text, Encryption))
        return known

    return Kind("choice", parse, str, {"enum": ["no", "optional", "strict", "yes", True, False]})


def _multicast_range(value: Json) -> IPNetwork | None:
    if value == "":
        return None
    network = parse_network(_text(value))
    if network.version != 4 or not network.is_multicast:
        raise InvalidValueError(f"'{value}' is not a range of IPv4 multicast addresses, such as 224.1.0.0/16")
    return network


def _dump_range(value: IPNetwork | None) -> str:
    return "" if value is None else str(value)


def _items(value: Json) -> list[str]:
    """A list of texts; a text with commas is split, for environment variables."""
    if isinstance(value, str):
        return [item.strip() for item in value.split(",")] if value.strip() else []
    if not isinstance(value, list | tuple):
        raise InvalidValueError(f"{_quote(value)} is not a list")
    return parse_each(_text, value)


def parse_each(parse: Callable[[Json], _Item], values: Iterable[Json]) -> list[_Item]:
    """Parse the items of a list. Raises the error of the first bad item; it has those of the others in ``others``."""
    parsed: list[_Item] = []
    errors: list[ConfigurationError] = []
    for value in values:
        try:
            parsed.append(parse(value))
        except ConfigurationError as error:
            errors += (error, *error.others)
    if errors:
        errors[0].others = tuple(errors[1:])
        raise errors[0] from errors[0].__cause__
    return parsed


def _networks(value: Json) -> tuple[IPNetwork, ...]:
    return tuple(parse_each(parse_network, _items(value)))


def _host_name(name: str) -> str:
    if not _HOST_NAME.fullmatch(name):
        raise InvalidValueError(f"{_quote(name)} is not a host name, such as media.example.com or *.example.com")
    return name


def _host_names(value: Json) -> tuple[str, ...]:
    return tuple(parse_each(_host_name, _items(value)))


def _url(value: Json) -> str:
    """A URL, or a word that replaces it. Surrounding spaces are removed, those in its path are encoded (RFC 3986)."""
    scheme, separator, rest = _text(value).strip(" ").partition("://")
    end = next((index for index, character in enumerate(rest) if character in "/?#"), len(rest))
    return scheme + separator + rest[:end] + rest[end:].replace(" ", "%20")


def _source(value: Json) -> str | tuple[str, ...]:
    sources = _NEXT_SOURCE.split(value) if isinstance(value, str) and "://" in value else value
    if isinstance(sources, str):
        return _url(sources)
    if not isinstance(sources, list | tuple):
        raise InvalidValueError(f"{_quote(value)} is neither a source nor a list of sources")
    texts = tuple(parse_each(_url, sources))
    return "" if not texts else texts[0] if len(texts) == 1 else texts


def _allowed(text: str, values: Iterable[str]) -> str:
    """Return the possible values, for the error about one that does not exist."""
    similar = closest(text, values)
    return f" (one of: {', '.join(filter(None, values))}{f'; did you mean {similar}?' if similar else ''})"


def _quote(value: Json) -> str:
    if isinstance(value, str):
        return f"'{value}'"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return "this number" if abs(value) > MAXIMUM_INTEGER else str(value)
    if value is None:
        return "null"
    return "a map" if isinstance(value, Mapping) else "a list"


def _network_text(network: IPNetwork) -> str:
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _choice(choices: type[_Choice], message: str) -> Callable[[Json], _Choice]:
    known = {choice.value: choice for choice in choices}

    def parse(value: Json) -> _Choice:
        text = _text(value)
        if text not in known:
            raise ConfigurationError(message % text + _allowed(text, known))
        return known[text]

    return parse


class ChoiceKind(Kind):
    """A choice, or a list of choices."""

    __slots__ = ("with_message",)

    def __init__(self, make: Callable[[str], Kind], message: str) -> None:
        """``make`` returns the kind with the error ``message``."""
        kind = make(message)
        super().__init__(kind.label, kind.parse, kind.dump, kind.schema)
        self.with_message: Callable[[str], Kind] = make
        """Returns the same kind with another message."""


def choice_kind(choices: type[_Choice], message: str) -> ChoiceKind:
    """Return the kind of an enumeration; ``message`` is the error, with %s for the given value."""
    schema = {"enum": [choice.value for choice in choices]}
    return ChoiceKind(lambda message: Kind("choice", _choice(choices, message), str, schema), message)


def choice_list_kind(choices: type[_Choice], message: str, collect: Callable[[Iterable[_Choice]], Any]) -> ChoiceKind:
    """A list of choices; with ``frozenset`` as ``collect`` it is a set, whose JSON form is sorted."""
    return ChoiceKind(lambda message: _choice_list_kind(choices, message, collect), message)


def _choice_list_kind(choices: type[_Choice], message: str, collect: Callable[[Iterable[_Choice]], Any]) -> Kind:
    parse_item = _choice(choices, message)
    item_schema = {"enum": [choice.value for choice in choices]}
    dump: Callable[[Any], Json] = _sorted_texts if collect is frozenset else _texts
    label = "set" if collect is frozenset else "list"

    def parse(value: Json) -> Any:
        return collect(dict.fromkeys(parse_each(parse_item, _items(value))))

    return Kind(label, parse, dump, {"type": "array", "items": item_schema})


def _texts(values: Iterable[str]) -> list[str]:
    return [str(value) for value in values]


def _sorted_texts(values: Iterable[str]) -> list[str]:
    return sorted(_texts(values))


def _network_texts(networks: Iterable[IPNetwork]) -> list[str]:
    return [_network_text(network) for network in networks]


def _dump_source(source: str | tuple[str, ...]) -> Json:
    return source if isinstance(source, str) else list(source)


BOOLEAN: Final = Kind("boolean", _boolean, bool, {"enum": [True, False, "yes", "no", "on", "off", "true", "false"]})
NEGATED: Final = Kind(BOOLEAN.label, lambda value: not _boolean(value), lambda value: not value, BOOLEAN.schema)
"""A boolean with the opposite meaning, for dialects."""
INTEGER: Final = Kind("whole number", _integer, int, {"type": "integer"})
WORKERS: Final = Kind(
    INTEGER.label,
    _workers,
    lambda value: value or AUTOMATIC,
    {"type": ["integer", "string"]},
)
"""Processes; 0 stands for one per core."""
PORT: Final = Kind(INTEGER.label, _integer, int, INTEGER.schema)
TEXT: Final = Kind("text", _text, str, {"type": ["string", "number", "boolean"]})
ADDRESS: Final = Kind("address", _address, str, {"type": "string", "pattern": r"^$|:[0-9]{1,5}$"})
CREDENTIAL: Final = Kind("credential", _credential, str, {"type": ["string", "number", "boolean"]})
LOGIN: Final = Kind("credential", _login, str, {"type": ["string", "number", "boolean"]})
URL: Final = Kind("text", _url, str, TEXT.schema)
DURATION: Final = Kind(
    "duration", _duration, str, {"type": "string", "pattern": "^0$|^([0-9.]+(ns|us|\u00b5s|\u03bcs|ms|s|m|h))+$"}
)
DURATION_WITH_DAYS: Final = Kind(
    DURATION.label,
    _duration_with_days,
    Duration.text_with_days,
    {"type": "string", "pattern": "^0$|^([0-9]+d)?([0-9.]+(ns|us|\u00b5s|\u03bcs|ms|s|m|h))*$"},
)
DURATION_OR_EMPTY: Final = Kind(DURATION.label, _duration_or_empty, _dump_or_empty, DURATION_WITH_DAYS.schema)
"""A duration whose zero is an empty text, for dialects."""
BYTES: Final = Kind("number of bytes", _bytes, int, {"type": ["integer", "string"]})
"""A size that may be written without a unit, for dialects."""
SIZE: Final = Kind("size", _size, str, {"type": "string", "pattern": "^[0-9.]+ *[BbKkMmGgTtPpEe]([Ii]?[Bb])?$"})
ENCRYPTION: Final = ChoiceKind(_encryption_kind, "invalid encryption: '%s'")
TEXTS: Final = Kind("list", lambda value: tuple(_items(value)), _texts, _TEXT_LIST_SCHEMA)
ORIGIN: Final = Kind(
    TEXT.label, lambda value: tuple(filter(None, (_text(value),))), lambda value: ", ".join(value), TEXT.schema
)
"""One origin instead of a list of them, for dialects."""
NETWORKS: Final = Kind("list of IP addresses or ranges", _networks, _network_texts, _TEXT_LIST_SCHEMA)
HOST_NAMES: Final = Kind("list of host names", _host_names, _texts, _TEXT_LIST_SCHEMA)
MULTICAST_RANGE: Final = Kind("range of IP addresses", _multicast_range, _dump_range, {"type": "string"})
SOURCE: Final = Kind(
    "source, or list of sources", _source, _dump_source, {"anyOf": [{"type": "string"}, _TEXT_LIST_SCHEMA]}
)
LOG_LEVEL: Final = choice_kind(LogLevel, "invalid log level: '%s'")
SOURCE_PROTOCOL: Final = choice_kind(SourceProtocol, "invalid transport '%s'")
RECORD_FORMAT: Final = choice_kind(RecordFormat, "invalid record format '%s'")
LOG_DESTINATIONS: Final = choice_list_kind(LogDestination, "invalid log destination: %s", frozenset)

KIND_OF_TYPE: Final[Mapping[object, Kind]] = {
    bool: BOOLEAN,
    int: INTEGER,
    str: TEXT,
    Duration: DURATION,
    Size: SIZE,
    Encryption: ENCRYPTION,
    LogLevel: LOG_LEVEL,
    SourceProtocol: SOURCE_PROTOCOL,
    RecordFormat: RECORD_FORMAT,
    frozenset[LogDestination]: LOG_DESTINATIONS,
    tuple[IPNetwork, ...]: NETWORKS,
    tuple[str, ...]: TEXTS,
}
"""The kind of a type; other fields have their kind in their annotation."""
