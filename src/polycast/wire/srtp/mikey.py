"""MIKEY (RFC 3830): the key of an SRTP stream, in SDP and in RTSP headers (RFC 4567).

Only the messages that RTSP implementations exchange over TLS: one from the initiator with a pre-shared key that is not
used (data type 0), in which neither the key is encrypted nor the message authenticated, since TLS does both.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.wire.rtsp.headers.key_mgmt import KEY_MANAGEMENT_ERROR
from polycast.wire.srtp.profiles import AEAD_AES_128_GCM, AES_CM_128_HMAC_SHA1_80, MasterKey, Profile

SIZE_LIMIT: Final = 2048
"""Bytes of a message; those of real implementations have 80 to 150."""

RANDOM_SIZE: Final = 16
"""Bytes of random data that a message must have at least (section 6.11)."""

_VERSION: Final = 1
_PRE_SHARED_KEY: Final = 0
_SRTP_ID: Final = 0
_LAST, _KEY_TRANSPORT, _TIMESTAMP, _ID, _POLICY, _RANDOM, _KEY_DATA, _EXTENSION = 0, 1, 5, 6, 10, 11, 20, 21
_HEADER: Final = struct.Struct("!BBBBIBB")
_SESSION: Final = struct.Struct("!BII")
_TIMESTAMP_SIZES: Final = {0: 8, 1: 8, 2: 4}
"""Bytes by type: NTP-UTC, NTP, COUNTER (section 6.6)."""

# Parameters of the SRTP policy (section 6.10.1).
_CIPHER, _CIPHER_KEY_SIZE, _AUTHENTICATION, _AUTHENTICATION_KEY_SIZE, _SALT_SIZE = 0, 1, 2, 3, 4
_KEY_DERIVATION_RATE, _ENCRYPTS_RTP, _ENCRYPTS_RTCP, _AUTHENTICATES, _TAG_SIZE = 6, 7, 8, 10, 11
_AES_CM, _AES_GCM = 1, 6
_HMAC_SHA1: Final = 1

# Types of key data (section 6.13).
_TGK, _TGK_WITH_SALT, _TEK, _TEK_WITH_SALT = 0, 1, 2, 3

_Policy = Mapping[int, int]


@dataclass(frozen=True, slots=True)
class KeyMessage:
    """What a MIKEY message says: how the packets of its sender are protected."""

    profile: Profile
    key: MasterKey
    roll_over_counters: Mapping[int, int]
    """The upper 32 bits of the packet index of each SSRC, as far as known."""

    def serialize(self, bundle: int, ntp: int, random: bytes) -> bytes:
        """Return the bytes of the message.

        ``bundle``: random number of 32 bits. ``ntp``: the time as a 64-bit NTP timestamp. ``random``: 16 random bytes.
        """
        sessions = [*self.roll_over_counters.items()]
        header = _HEADER.pack(_VERSION, _PRE_SHARED_KEY, _TIMESTAMP, 0, bundle, len(sessions), _SRTP_ID)
        header += b"".join(_SESSION.pack(0, ssrc, counter) for ssrc, counter in sessions)
        timestamp = bytes((_RANDOM, 0)) + ntp.to_bytes(8, "big")
        randoms = bytes((_POLICY, len(random))) + random
        parameters = b"".join(bytes((name, 1, value)) for name, value in _policy_of(self.profile).items())
        policy = bytes((_KEY_TRANSPORT, 0, 0)) + len(parameters).to_bytes(2, "big") + parameters
        secret = self.key.key + self.key.salt
        key_data = bytes((_LAST, _TEK << 4)) + len(secret).to_bytes(2, "big") + secret
        transport = bytes((_LAST, 0)) + len(key_data).to_bytes(2, "big") + key_data + b"\0"
        return header + timestamp + randoms + policy + transport


def _policy_of(profile: Profile) -> _Policy:
    policy = {_CIPHER: _AES_GCM if profile.is_aead else _AES_CM, _CIPHER_KEY_SIZE: profile.key_size}
    if not profile.is_aead:
        policy |= {_AUTHENTICATION: _HMAC_SHA1, _AUTHENTICATION_KEY_SIZE: profile.authentication_key_size}
    policy |= {_ENCRYPTS_RTP: 1, _ENCRYPTS_RTCP: 1, _AUTHENTICATES: 1, _TAG_SIZE: profile.tag_size}
    return policy


def parse_message(data: bytes) -> KeyMessage:
    """Parse a message. Raises RemoteProtocolError (466) if it is invalid, or has no key that can be used."""
    if len(data) > SIZE_LIMIT:
        raise _error(f"larger than {SIZE_LIMIT} bytes")
    try:
        return _parse(data)
    except (struct.error, IndexError):
        raise _error("truncated") from None


def _error(text: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"invalid MIKEY message: {text}", KEY_MANAGEMENT_ERROR)


def _parse(data: bytes) -> KeyMessage:
    version, data_type, first, flags, _, count, map_type = _HEADER.unpack_from(data)
    if version != _VERSION or data_type != _PRE_SHARED_KEY or flags & 0x7F or map_type != _SRTP_ID:
        raise _error(f"version {version}, type {data_type} and map {map_type} are not supported")
    position = _HEADER.size
    counters: dict[int, int] = {}
    for _ in range(count):
        _, ssrc, counter = _SESSION.unpack_from(data, position)
        counters[ssrc] = counter
        position += _SESSION.size
    policy: _Policy = {}
    secret: bytes | None = None
    for kind, payload in _payloads(data, first, position):
        if kind == _POLICY:
            policy = _parse_policy(payload)
        elif kind == _KEY_TRANSPORT:
            secret = _parse_key(payload)
    if secret is None:
        raise _error("without a key")
    profile = _profile_of(policy)
    if len(secret) != profile.key_size + profile.salt_size:
        raise _error(f"a key of {len(secret)} bytes")
    return KeyMessage(profile, MasterKey(secret[: profile.key_size], secret[profile.key_size :]), counters)


def _payloads(data: bytes, kind: int, position: int) -> Iterator[tuple[int, bytes]]:
    """Yield type and bytes of each payload, without its first byte, which is the type of the next one."""
    while kind != _LAST:
        following = data[position]
        end = position + 1 + _payload_size(data, kind, position + 1)
        if end > len(data):
            raise _error("truncated")
        yield kind, data[position + 1 : end]
        kind, position = following, end


def _payload_size(data: bytes, kind: int, position: int) -> int:
    """Return the size of the payload whose second byte is at this position."""
    if kind == _KEY_TRANSPORT:
        return 3 + _number(data, position + 1) + 1  # the algorithms, and no MAC
    if kind == _TIMESTAMP:
        size = _TIMESTAMP_SIZES.get(data[position])
        if size is None:
            raise _error(f"timestamp of type {data[position]}")
        return 1 + size
    if kind == _POLICY:
        return 4 + _number(data, position + 2)
    if kind == _RANDOM:
        if data[position] < RANDOM_SIZE:
            raise _error(f"{data[position]} random bytes")
        return 1 + data[position]
    if kind in (_ID, _EXTENSION):
        return 3 + _number(data, position + 1)
    raise _error(f"payload {kind} is not supported")


def _number(data: bytes, position: int) -> int:
    return data[position] << 8 | data[position + 1]


def _parse_policy(payload: bytes) -> _Policy:
    if payload[1] != 0:
        raise _error(f"policy of protocol {payload[1]}")
    policy: dict[int, int] = {}
    position = 4
    while position < len(payload):
        name, size = payload[position], payload[position + 1]
        value = payload[position + 2 : position + 2 + size]
        if len(value) != size:
            raise _error("truncated")
        policy[name] = int.from_bytes(value, "big")
        position += 2 + size
    return policy


def _profile_of(policy: _Policy) -> Profile:
    """Return the profile of a policy; what it does not say is the default of section 6.10.1."""
    is_aead = policy.get(_CIPHER, _AES_CM) == _AES_GCM
    profile = AEAD_AES_128_GCM if is_aead else AES_CM_128_HMAC_SHA1_80
    wanted = {_CIPHER: _AES_GCM if is_aead else _AES_CM, _CIPHER_KEY_SIZE: profile.key_size, _KEY_DERIVATION_RATE: 0}
    wanted |= {_ENCRYPTS_RTP: 1, _ENCRYPTS_RTCP: 1, _AUTHENTICATES: 1, _SALT_SIZE: profile.salt_size}
    if not is_aead:
        wanted |= {_AUTHENTICATION: _HMAC_SHA1, _TAG_SIZE: profile.tag_size}
        # GStreamer writes the size of the tag in place of that of the authentication key.
        if policy.get(_AUTHENTICATION_KEY_SIZE) != profile.tag_size:
            wanted[_AUTHENTICATION_KEY_SIZE] = profile.authentication_key_size
    for name, value in wanted.items():
        if policy.get(name, value) != value:
            raise _error(f"policy parameter {name} with value {policy[name]} is not supported")
    return profile


def _parse_key(payload: bytes) -> bytes:
    """Return key and salt of a key data transport payload (section 6.2)."""
    if payload[0] != 0 or payload[-1] != 0:
        raise _error("an encrypted key")
    data = payload[3:-1]
    following, types, size = data[0], data[1], _number(data, 2)
    key_type, validity = types >> 4, types & 0x0F
    secret = data[4 : 4 + size]
    position = 4 + size
    if key_type == _TEK_WITH_SALT:
        salt_size = _number(data, position)
        secret += data[position + 2 : position + 2 + salt_size]
        position += 2 + salt_size
    elif key_type != _TEK:
        raise _error(f"a key of type {key_type}")
    if validity == 1:  # an MKI would be in each packet
        raise _error("a key with an MKI")
    if following != _LAST:
        raise _error("several keys")
    if validity not in (0, 2) or (validity == 0 and position != len(data)) or position > len(data):
        raise _error("invalid key data")
    return secret


def encode_message(data: bytes) -> str:
    """Return a message in base64, as in SDP after ``a=key-mgmt:mikey`` and in the header KeyMgmt."""
    return base64.b64encode(data).decode()


def decode_message(text: str) -> KeyMessage:
    """Parse a message in base64. Raises RemoteProtocolError (466)."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise _error("not base64") from None
    return parse_message(data)
