"""SRTP protection profiles and the derivation of their keys from DTLS (RFC 3711, RFC 5764, RFC 7714)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from polycast.errors import RemoteProtocolError

EXPORTER_LABEL: Final = b"EXTRACTOR-dtls_srtp"
"""Label of the keying material that DTLS exports for SRTP (RFC 5764 section 4.2)."""

# Labels of the key derivation (RFC 3711 section 4.3.2).
_RTP_KEY, _RTP_AUTHENTICATION, _RTP_SALT = 0, 1, 2
_RTCP_KEY, _RTCP_AUTHENTICATION, _RTCP_SALT = 3, 4, 5


@dataclass(frozen=True, slots=True)
class Profile:
    """One protection profile. Sizes are in bytes."""

    name: str
    """Name registered with IANA."""
    openssl_name: str
    """Name used by OpenSSL."""
    key_size: int
    salt_size: int
    authentication_key_size: int
    """0 for profiles whose cipher includes authentication (AEAD)."""
    tag_size: int
    """Bytes by which an SRTP packet is longer than its RTP packet."""

    @property
    def is_aead(self) -> bool:
        """Whether the cipher includes authentication."""
        return self.authentication_key_size == 0

    @property
    def exported_size(self) -> int:
        """Bytes of keying material: a key and a salt for each direction."""
        return 2 * (self.key_size + self.salt_size)


AEAD_AES_128_GCM: Final = Profile("SRTP_AEAD_AES_128_GCM", "SRTP_AEAD_AES_128_GCM", 16, 12, 0, 16)
AEAD_AES_256_GCM: Final = Profile("SRTP_AEAD_AES_256_GCM", "SRTP_AEAD_AES_256_GCM", 32, 12, 0, 16)
AES_CM_128_HMAC_SHA1_80: Final = Profile("SRTP_AES128_CM_HMAC_SHA1_80", "SRTP_AES128_CM_SHA1_80", 16, 14, 20, 10)

PROFILES: Final = (AEAD_AES_128_GCM, AEAD_AES_256_GCM, AES_CM_128_HMAC_SHA1_80)
"""In order of preference: AES-128-GCM takes a third of the time of AES-CM with HMAC."""


def profile_by_openssl_name(name: str) -> Profile:
    """Return the profile that a DTLS handshake negotiated.

    Raises RemoteProtocolError if it negotiated none, or one that was not offered.
    """
    for profile in PROFILES:
        if profile.openssl_name == name:
            return profile
    raise RemoteProtocolError(f"no common SRTP protection profile: {name or 'none'}")


@dataclass(frozen=True, slots=True)
class MasterKey:
    """Key and salt of one direction."""

    key: bytes
    salt: bytes


def split_exported(profile: Profile, exported: bytes) -> tuple[MasterKey, MasterKey]:
    """Split the keying material of DTLS; return the keys of the client and of the server.

    RFC 5764 section 4.2: first both keys, then both salts.
    """
    size = profile.key_size
    client_salt = 2 * size
    server_salt = client_salt + profile.salt_size
    return (
        MasterKey(exported[:size], exported[client_salt:server_salt]),
        MasterKey(exported[size : 2 * size], exported[server_salt : server_salt + profile.salt_size]),
    )


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """Keys of one direction and one of the two protocols, SRTP or SRTCP."""

    key: bytes
    authentication: bytes
    salt: bytes


def derive_rtp_keys(profile: Profile, master: MasterKey) -> SessionKeys:
    """Return the session keys for SRTP (RFC 3711 section 4.3.1, with a key derivation rate of 0)."""
    return _derive(profile, master, _RTP_KEY, _RTP_AUTHENTICATION, _RTP_SALT)


def derive_rtcp_keys(profile: Profile, master: MasterKey) -> SessionKeys:
    """Return the session keys for SRTCP (RFC 3711 section 4.3.2)."""
    return _derive(profile, master, _RTCP_KEY, _RTCP_AUTHENTICATION, _RTCP_SALT)


def _derive(profile: Profile, master: MasterKey, key: int, authentication: int, salt: int) -> SessionKeys:
    return SessionKeys(
        _keystream(master, key, profile.key_size),
        _keystream(master, authentication, profile.authentication_key_size),
        _keystream(master, salt, profile.salt_size),
    )


def _keystream(master: MasterKey, label: int, size: int) -> bytes:
    # A salt of 96 bits is padded with 16 zero bits (RFC 7714 section 11).
    salt = int.from_bytes(master.salt.ljust(14, b"\0"), "big")
    counter = (salt ^ label << 48) << 16
    encryptor = Cipher(algorithms.AES(master.key), modes.CTR(counter.to_bytes(16, "big"))).encryptor()
    return encryptor.update(bytes(size))
