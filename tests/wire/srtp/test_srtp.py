"""SRTP against the vectors of its RFCs, and against libsrtp."""

from __future__ import annotations

import random
import struct

import pylibsrtp
import pytest

from polycast.errors import RemoteProtocolError
from polycast.wire.srtp.ciphers import GcmCipher, position_of
from polycast.wire.srtp.profiles import (
    AEAD_AES_128_GCM,
    AEAD_AES_256_GCM,
    AES_CM_128_HMAC_SHA1_80,
    PROFILES,
    MasterKey,
    Profile,
    SessionKeys,
    derive_rtp_keys,
    profile_by_openssl_name,
    split_exported,
)
from polycast.wire.srtp.session import MAXIMUM_SOURCES, REPLAY_WINDOW, SrtpReceiver, SrtpSender

LIBSRTP_PROFILES = {
    AEAD_AES_128_GCM.name: pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    AEAD_AES_256_GCM.name: pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
    AES_CM_128_HMAC_SHA1_80.name: pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
}

every_profile = pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)


def master_of(profile: Profile) -> MasterKey:
    source = random.Random(profile.name)
    return MasterKey(source.randbytes(profile.key_size), source.randbytes(profile.salt_size))


def libsrtp(profile: Profile, *, outbound: bool) -> pylibsrtp.Session:
    master = master_of(profile)
    kind = pylibsrtp.Policy.SSRC_ANY_OUTBOUND if outbound else pylibsrtp.Policy.SSRC_ANY_INBOUND
    policy = pylibsrtp.Policy(key=master.key + master.salt, ssrc_type=kind, srtp_profile=LIBSRTP_PROFILES[profile.name])
    policy.window_size = REPLAY_WINDOW
    return pylibsrtp.Session(policy)


def rtp_header(sequence: int, ssrc: int = 0x11223344, first: int = 0x80, rest: bytes = b"") -> bytes:
    return struct.pack("!BBHII", first, 96, sequence & 0xFFFF, 3000 * sequence & 0xFFFFFFFF, ssrc) + rest


HEADERS = {
    "plain": rtp_header(7),
    "two CSRCs": rtp_header(8, first=0x82, rest=bytes(range(8))),
    "extension": rtp_header(9, first=0x90, rest=bytes.fromhex("bede0001") + b"\x10A\0\0"),
    "both": rtp_header(10, first=0x91, rest=b"\1\2\3\4" + bytes.fromhex("bede0002") + bytes(8)),
}


def test_key_derivation_of_rfc_3711() -> None:
    """RFC 3711 appendix B.3."""
    master = MasterKey(bytes.fromhex("E1F97A0D3E018BE0D64FA32C06DE4139"), bytes.fromhex("0EC675AD498AFEEBB6960B3AABE6"))
    keys = derive_rtp_keys(AES_CM_128_HMAC_SHA1_80, master)
    assert keys.key.hex().upper() == "C61E7A93744F39EE10734AFE3FF7A087"
    assert keys.salt.hex().upper() == "30CBBC08863D8C85D49DB34A9AE1"
    assert keys.authentication.hex().upper() == "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"


@pytest.mark.parametrize(
    ("key", "sealed"),
    [
        (
            "000102030405060708090a0b0c0d0e0f",
            "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833"
            "899d7f27beb16a9152cf765ee4390cce",
        ),
        (
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
            "32b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f1ba63799b87b"
            "7aa3db36dfffd6b0f9bb7878d7a76c13",
        ),
    ],
    ids=["AES-128", "AES-256"],
)
def test_aead_of_rfc_7714(key: str, sealed: str) -> None:
    """RFC 7714 sections 16.1.1 and 16.2.1: the keys given there are session keys."""
    header = bytes.fromhex("8040f17b8041f8d35501a0b2")
    payload = b"Gallia est omnis divisa in partes tres"
    cipher = GcmCipher(SessionKeys(bytes.fromhex(key), b"", bytes.fromhex("517569642070726f2071756f")))
    position = position_of(0x5501A0B2, 0xF17B)
    assert cipher.seal(position, header, payload).hex() == sealed
    assert cipher.open(position, header, bytes.fromhex(sealed)) == payload


@every_profile
@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_packets_are_those_of_libsrtp(profile: Profile, header: bytes) -> None:
    payload = bytes(range(256)) * 4
    sequence, ssrc = struct.unpack_from("!2xH4xI", header)
    ours = SrtpSender(profile, master_of(profile)).protect(header, payload, ssrc, sequence)
    assert ours == libsrtp(profile, outbound=True).protect(header + payload)
    assert len(ours) == len(header) + len(payload) + profile.tag_size
    assert SrtpReceiver(profile, master_of(profile)).open(ours) == header + payload


@every_profile
def test_a_whole_batch_is_encrypted_in_place(profile: Profile) -> None:
    payloads = [bytes([number]) * (1188 if number < 5 else 300) for number in range(6)]
    buffer = bytearray()
    sealings = []
    for number, payload in enumerate(payloads):
        header = rtp_header(number)
        start = len(buffer) + len(header)
        buffer += header + bytes(len(payload) + profile.tag_size)
        sealings.append((position_of(0x11223344, number), header, payload, start))
    view = memoryview(buffer)
    SrtpSender(profile, master_of(profile)).protect_all(
        (position, header, payload, view[start : start + len(payload) + profile.tag_size])
        for position, header, payload, start in sealings
    )
    peer = libsrtp(profile, outbound=True)
    assert bytes(buffer) == b"".join(peer.protect(header + payload) for (_, header, payload, _) in sealings)


@every_profile
def test_sequence_numbers_wrap_as_in_libsrtp(profile: Profile) -> None:
    peer = libsrtp(profile, outbound=True)
    sender, receiver = SrtpSender(profile, master_of(profile)), SrtpReceiver(profile, master_of(profile))
    for index in range(0xFFF0, 0x10010):
        header = rtp_header(index)
        theirs = peer.protect(header + b"payload")
        assert sender.protect(header, b"payload", 0x11223344, index) == theirs
        assert receiver.open(theirs) == header + b"payload"


@every_profile
def test_packets_from_before_the_wrap_may_arrive_after_it(profile: Profile) -> None:
    sender, receiver = SrtpSender(profile, master_of(profile)), SrtpReceiver(profile, master_of(profile))
    for index in (0xFFFE, 0x10001, 0xFFFF, 0x10000, 0x10002):
        header = rtp_header(index)
        assert receiver.open(sender.protect(header, b"x", 0x11223344, index)) == header + b"x"
    assert receiver.refused == 0


@every_profile
def test_control_packets_are_those_of_libsrtp(profile: Profile) -> None:
    peer_out, peer_in = libsrtp(profile, outbound=True), libsrtp(profile, outbound=False)
    sender, receiver = SrtpSender(profile, master_of(profile)), SrtpReceiver(profile, master_of(profile))
    # A receiver report and a picture loss indication, in one compound packet.
    packet = bytes.fromhex("80c900011122334481ce00021122334455667788")
    for _ in range(3):
        ours = sender.protect_control(packet)
        assert ours == peer_out.protect_rtcp(packet)
        assert peer_in.unprotect_rtcp(ours) == packet
        assert receiver.open_control(ours) == packet
        assert receiver.open_control(ours) is None, "replayed"
    assert receiver.refused == 3


@every_profile
def test_replayed_and_damaged_packets_are_refused(profile: Profile) -> None:
    sender, receiver = SrtpSender(profile, master_of(profile)), SrtpReceiver(profile, master_of(profile))
    packet = sender.protect(rtp_header(5), b"payload", 0x11223344, 5)
    for position in range(len(packet)):
        damaged = bytearray(packet)
        damaged[position] ^= 1
        assert receiver.open(bytes(damaged)) is None
        assert receiver.open(packet[:position]) is None
    assert receiver.open(packet) is not None, "what was refused before says nothing about the packet itself"
    assert receiver.open(packet) is None
    assert receiver.refused == 2 * len(packet) + 1


@every_profile
def test_the_window_has_the_announced_length(profile: Profile) -> None:
    sender, receiver = SrtpSender(profile, master_of(profile)), SrtpReceiver(profile, master_of(profile))
    newest = 2 * REPLAY_WINDOW

    def received(index: int) -> bool:
        return receiver.open(sender.protect(rtp_header(index), b"x", 0x11223344, index)) is not None

    assert received(newest)
    assert received(newest - REPLAY_WINDOW + 1)
    assert not received(newest - REPLAY_WINDOW)
    assert not received(newest - REPLAY_WINDOW + 1)
    assert received(newest + 5 * REPLAY_WINDOW)
    assert not received(newest)


def test_random_orders_agree_with_libsrtp() -> None:
    profile, source = AEAD_AES_128_GCM, random.Random(7)
    sender, receiver = SrtpSender(profile, master_of(profile)), SrtpReceiver(profile, master_of(profile))
    peer = libsrtp(profile, outbound=False)
    base = 0xFE00
    for _ in range(3000):
        base += source.randrange(3)
        index = max(0, base - source.randrange(1200) * (source.random() < 0.2))
        packet = sender.protect(rtp_header(index), b"x", 0x11223344, index)
        try:
            expected = peer.unprotect(packet)
        except pylibsrtp.Error:
            expected = None
        assert receiver.open(packet) == expected


def test_sources_are_limited() -> None:
    profile = AEAD_AES_128_GCM
    sender, receiver = SrtpSender(profile, master_of(profile)), SrtpReceiver(profile, master_of(profile))
    opened = [receiver.open(sender.protect(rtp_header(1, ssrc), b"x", ssrc, 1)) for ssrc in range(MAXIMUM_SOURCES + 3)]
    assert [packet is not None for packet in opened] == [True] * MAXIMUM_SOURCES + [False] * 3


def test_exported_keys_are_split_by_direction() -> None:
    exported = bytes(range(AES_CM_128_HMAC_SHA1_80.exported_size))
    client, server = split_exported(AES_CM_128_HMAC_SHA1_80, exported)
    assert (client.key, server.key) == (exported[:16], exported[16:32])
    assert (client.salt, server.salt) == (exported[32:46], exported[46:60])


def test_profiles_are_found_by_the_name_that_openssl_has() -> None:
    assert profile_by_openssl_name("SRTP_AES128_CM_SHA1_80") is AES_CM_128_HMAC_SHA1_80
    with pytest.raises(RemoteProtocolError, match="no common SRTP protection profile: none"):
        profile_by_openssl_name("")
