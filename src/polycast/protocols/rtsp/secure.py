"""SRTP for the clients of RTSPS: over UDP, over multicast, and interleaved (RFC 3711, keys by RFC 4567).

Each track of a stream has one key, which all of its readers get, so that a batch is encrypted once for all of them. The
clients are those that may read the stream, and TLS protects the key on the way to them.
"""

from __future__ import annotations

import secrets
import time
import weakref
from collections.abc import Sequence
from functools import partial
from typing import Any

from polycast.errors import RemoteProtocolError
from polycast.hub.batch import PacketBatch
from polycast.hub.stats import CipherMeter
from polycast.hub.stream import Stream
from polycast.media.packet_buffer import PacketBuffer
from polycast.media.timebase import WallTime, wall_time_to_ntp
from polycast.net.outbox import Outbox
from polycast.net.udp import UdpSocket
from polycast.protocols.rtsp.media_ports import PacketHandler
from polycast.protocols.rtsp.readers import (
    Channels,
    DatagramForm,
    DatagramReader,
    InterleavedForm,
    InterleavedReader,
    MulticastGroup,
    Owner,
    TrackAddresses,
    group_packets,
)
from polycast.rtp.header import EMPTY_PACKET
from polycast.wire.rtsp.headers.key_mgmt import KEY_MANAGEMENT_ERROR
from polycast.wire.rtsp.interleaved import DOLLAR, HEADER
from polycast.wire.srtp.mikey import RANDOM_SIZE, KeyMessage, decode_message, encode_message
from polycast.wire.srtp.profiles import AES_CM_128_HMAC_SHA1_80, MasterKey
from polycast.wire.srtp.session import MAXIMUM_SOURCES, SrtpReceiver, SrtpSender, header_size

# The only profile that all RTSP implementations with SRTP support.
PROFILE = AES_CM_128_HMAC_SHA1_80

# A jump of the sequence number by more is not a loss, but a publisher that starts again with other numbers.
LARGEST_GAP = 3_000


class SecureTrack:
    """Encrypts the packets of one track with a key of its own.

    The sequence numbers are its own as well: those of the publisher, with its losses, but they never go back. A packet
    index is never used twice with a key (RFC 3711 section 9.1), whatever the publisher sends, and whether there are
    readers all the time or not.
    """

    def __init__(self, meter: CipherMeter | None = None) -> None:
        self._meter = meter or CipherMeter()
        self.key = MasterKey(secrets.token_bytes(PROFILE.key_size), secrets.token_bytes(PROFILE.salt_size))
        self._sender = SrtpSender(PROFILE, self.key)
        self._places: dict[int, tuple[int, int]] = {}
        """By SSRC: the sequence number of the last packet, and the index with which it was sent."""
        self._report = b""
        self._protected_report = b""
        self.packets_key = f"srtp {id(self)}"
        """The key under which batches keep `protect`."""
        self.datagram_key = f"srtp datagrams {id(self)}"

    def message(self, ssrc: int | None) -> str:
        """Return the MIKEY message in base64 with the key. ``ssrc``: of the packets, if it is known."""
        _, index = self._places.get(ssrc or 0, (0, 0))
        message = KeyMessage(PROFILE, self.key, {ssrc or 0: index >> 16})
        ntp = wall_time_to_ntp(WallTime(time.time_ns()))
        return encode_message(message.serialize(secrets.randbits(32), ntp, secrets.token_bytes(RANDOM_SIZE)))

    def sequence_of(self, ssrc: int | None, sequence: int) -> int:
        """Return the sequence number with which the packet will be sent, if it is the next one."""
        return self._index_of(ssrc or 0, sequence) & 0xFFFF

    def protect(self, batch: PacketBatch, track_index: int) -> dict[int, bytes]:
        """Return the SRTP packets of the track in a batch, by the identity of its packets, in order."""
        protect, places = self._sender.protect, self._places
        found: dict[int, bytes] = {}
        began = time.perf_counter()
        for run in batch.runs:
            if run.track_index != track_index:
                continue
            for packet in run.packets:
                data = packet.data[packet.start : packet.end]
                ssrc = int.from_bytes(data[8:12], "big")
                size = header_size(data)
                if size is None or (ssrc not in places and len(places) >= MAXIMUM_SOURCES):
                    continue  # receivers would not accept it either
                index = self._index_of(ssrc, packet.sequence)
                places[ssrc] = packet.sequence, index
                header = data[:2] + (index & 0xFFFF).to_bytes(2, "big") + data[4:size]
                found[id(packet)] = protect(header, data[size:], ssrc, index)
        self._meter.add(len(found), time.perf_counter() - began)
        return found

    def protect_report(self, report: bytes) -> bytes:
        """Return the SRTCP packet for a compound packet; the same one for all readers of a report."""
        if report is not self._report:
            self._report = report
            self._protected_report = self._sender.protect_control(report)
        return self._protected_report

    def protect_opening(self) -> bytes:
        """Return an SRTP packet without payload, which opens the NATs in between. It is always the same."""
        return self._sender.protect(EMPTY_PACKET, b"", 0, 0)

    def _index_of(self, ssrc: int, sequence: int) -> int:
        place = self._places.get(ssrc)
        if place is None:
            return sequence
        last, index = place
        step = (sequence - last) & 0xFFFF
        return index + (step if 0 < step <= LARGEST_GAP else 1)


class SecureStream:
    """The keys of a stream for its readers, or those of one session for its publisher."""

    def __init__(self, count: int, meter: CipherMeter | None = None) -> None:
        self.tracks = tuple(SecureTrack(meter) for _ in range(count))

    def messages(self, stream: Stream) -> Sequence[str]:
        """Return the MIKEY message in base64 of each track."""
        return [track.message(live.ssrc) for track, live in zip(self.tracks, stream.tracks, strict=True)]

    def packets(self, batch: PacketBatch, track_index: int) -> dict[int, bytes]:
        """Return the SRTP packets of a track, encrypted for the first reader that asks."""
        track = self.tracks[track_index]
        return batch.form(track.packets_key, partial(track.protect, track_index=track_index))

    def datagrams(self, batch: PacketBatch, track_index: int) -> DatagramForm:
        """Return the SRTP packets of a track as datagrams."""
        return group_packets([*self.packets(batch, track_index).values()])

    def make_datagram_reader(
        self, session: Owner, rtp: UdpSocket, rtcp: UdpSocket, addresses: TrackAddresses
    ) -> DatagramReader:
        """Return a reader over UDP."""
        return SecureDatagramReader(session, rtp, rtcp, addresses, self)

    def make_interleaved_reader(
        self, session: Owner, outbox: Outbox, channels: Channels, report_channels: Channels, key_track: int
    ) -> InterleavedReader:
        """Return a reader over the RTSP connection."""
        return SecureInterleavedReader(session, outbox, channels, report_channels, key_track, self)

    def open_input(
        self, index: int, client_key: str | None, on_rtp: PacketHandler, on_rtcp: PacketHandler
    ) -> SecureInput:
        """Return what decrypts a client's packets for a track; ``client_key``: MIKEY in base64.

        Without a key of the client, it uses ours, as live555 does for its reports.
        """
        if client_key is None:
            return SecureInput(SrtpReceiver(PROFILE, self.tracks[index].key), on_rtp, on_rtcp)
        key = decode_message(client_key)
        return SecureInput(SrtpReceiver(key.profile, key.key, key.roll_over_counters), on_rtp, on_rtcp)


class SecureStreams:
    """The keys of all streams of a server, made when the first client asks for them.

    What is needed for SRTP is reached through this object, since the package for its ciphers is optional.
    """

    def __init__(self, meter: CipherMeter, *, is_advertised: bool) -> None:
        """``is_advertised``: session descriptions offer SRTP."""
        self._meter = meter
        self.is_advertised = is_advertised
        self._streams: weakref.WeakKeyDictionary[Stream, SecureStream] = weakref.WeakKeyDictionary()

    def of(self, stream: Stream) -> SecureStream:
        """Return the keys of a stream."""
        secure = self._streams.get(stream)
        if secure is None:
            secure = self._streams[stream] = SecureStream(len(stream.tracks), self._meter)
        return secure

    def make(self, count: int) -> SecureStream:
        """Return new keys, for the tracks of a publisher."""
        return SecureStream(count)

    def make_group(self, stream: Stream, *arguments: Any) -> MulticastGroup:
        """Return a multicast group of a stream; ``arguments``: those of `MulticastGroup`."""
        return SecureMulticastGroup(self.of(stream), *arguments)

    def check_client_key(self, message: str | None, *, records: bool) -> None:
        """Check the key of a client; ``records``: a publisher, who needs one. Raises RemoteProtocolError (466)."""
        if message is not None:
            decode_message(message)
        elif records:
            raise RemoteProtocolError("publishing with SRTP needs the header KeyMgmt", KEY_MANAGEMENT_ERROR)


# Readers


class SecureDatagramReader(DatagramReader):
    """Reads SRTP over UDP."""

    def __init__(
        self,
        session: Owner,
        rtp_socket: UdpSocket,
        rtcp_socket: UdpSocket,
        addresses: TrackAddresses,
        secure: SecureStream,
    ) -> None:
        super().__init__(session, rtp_socket, rtcp_socket, addresses)
        self._secure = secure
        self._targets = [
            (secure.tracks[index].datagram_key, partial(secure.datagrams, track_index=index), rtp_address)
            for index, (rtp_address, _) in addresses.items()
        ]

    def send_report(self, track_index: int, report: bytes) -> None:
        super().send_report(track_index, self._secure.tracks[track_index].protect_report(report))


class SecureInterleavedReader(InterleavedReader):
    """Reads SRTP over the RTSP connection itself."""

    def __init__(
        self,
        session: Owner,
        outbox: Outbox,
        channels: Channels,
        report_channels: Channels,
        key_track: int,
        secure: SecureStream,
    ) -> None:
        super().__init__(session, outbox, channels, report_channels, key_track)
        self._secure = secure
        self._channels = channels
        self._form_key = f"srtp interleaved {id(secure)} {channels}"

    def deliver(self, batch: PacketBatch) -> None:
        outbox = self._outbox
        if outbox.ready:
            data, count = batch.form(self._form_key, self._interleave_all)
        else:
            rest = self._resume(batch)
            if rest is None:
                return
            data, count = self._interleave_rest(rest, batch)
        if data:
            outbox.write(data)
            self.counters.bytes_sent += len(data)
            self.counters.packets_sent += count

    def send_report(self, track_index: int, report: bytes) -> None:
        super().send_report(track_index, self._secure.tracks[track_index].protect_report(report))

    def _interleave_all(self, batch: PacketBatch) -> InterleavedForm:
        return self._interleave_rest(batch, batch)

    def _interleave_rest(self, rest: PacketBatch, batch: PacketBatch) -> InterleavedForm:
        """Return the packets of ``rest``, which are some of those of ``batch``, as interleaved frames."""
        parts: list[bytes] = []
        for run in rest.runs:
            channel = self._channels[run.track_index]
            if channel < 0:
                continue
            protected = self._secure.packets(batch, run.track_index)
            for packet in run.packets:
                data = protected.get(id(packet))
                if data is not None:
                    parts += (HEADER.pack(DOLLAR, channel, len(data)), data)
        return InterleavedForm(b"".join(parts), len(parts) // 2)


class SecureMulticastGroup(MulticastGroup):
    """Sends SRTP to multicast addresses."""

    def __init__(self, secure: SecureStream, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._secure = secure

    def send_report(self, track_index: int, report: bytes) -> None:
        super().send_report(track_index, self._secure.tracks[track_index].protect_report(report))

    def datagrams(self, batch: PacketBatch, track_index: int) -> DatagramForm:
        make = partial(self._secure.datagrams, track_index=track_index)
        return batch.form(self._secure.tracks[track_index].datagram_key, make)


# Publishers, and the reports of readers


class SecureInput:
    """Decrypts what a client sends for one track, and passes it on."""

    def __init__(self, srtp: SrtpReceiver, on_rtp: PacketHandler, on_rtcp: PacketHandler) -> None:
        self._srtp = srtp
        self._on_rtp = on_rtp
        self._on_rtcp = on_rtcp

    def receive_rtp(self, data: bytes, start: int, end: int) -> None:
        """Process an SRTP packet; those that are not authentic are dropped."""
        opened = self._srtp.open(data[start:end])
        if opened is not None:
            self._on_rtp(opened, 0, len(opened))

    def receive_rtcp(self, data: bytes, start: int, end: int) -> None:
        """Process an SRTCP packet; those that are not authentic are dropped."""
        opened = self._srtp.open_control(data[start:end])
        if opened is not None:
            self._on_rtcp(opened, 0, len(opened))

    def receive_buffer(self, buffer: PacketBuffer, now: float) -> None:
        """Process the SRTP packets of one read over TCP."""
        for start, end in buffer.bounds():
            self.receive_rtp(buffer.data, start, end)

    def receive_reports(self, buffer: PacketBuffer, now: float) -> None:
        """Process the SRTCP packets of one read over TCP."""
        for start, end in buffer.bounds():
            self.receive_rtcp(buffer.data, start, end)
