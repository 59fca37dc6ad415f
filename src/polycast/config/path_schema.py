"""The settings of one path. The descriptions here are the only copy: every document is made from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

from msgspec import Meta

from polycast.config.always_available import TRACKS, AlwaysAvailableTrack
from polycast.config.declarations import SourceKind
from polycast.config.forward import FORWARD, ForwardDestination
from polycast.config.kinds import CREDENTIAL, DURATION_WITH_DAYS, SOURCE, URL, passphrase_kind
from polycast.config.marks import LIVE, NEW, ZERO_IS_A_VALUE, Heading
from polycast.config.receiving_schema import ReceivingConfiguration
from polycast.config.recording import DEFAULT_RECORD_PATH
from polycast.config.source_values import PORT_RANGE, RANGE_TYPE, SCALE, RangeType, range_errors
from polycast.config.sources import PUBLISHER, source_kind
from polycast.config.spelling import yaml_key
from polycast.config.values import SECONDS_PER_DAY, Duration, RecordFormat, Size, SourceProtocol
from polycast.errors import ConfigurationError
from polycast.security.addresses import IPNetwork


class OwnSettings(frozenset[str]):
    """Python names of settings. All are equal: configurations with the same values are, wherever they come from."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OwnSettings)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(OwnSettings)


class PathConfiguration(ReceivingConfiguration, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=yaml_key):
    """The settings of one entry of ``paths``."""

    source: Annotated[
        str | tuple[str, ...],
        SOURCE,
        Heading("Source"),
        Meta(
            description=(
                "Where the stream comes from. 'publisher': a client publishes it. A URL starting with rtsp://, "
                "rtsps://, rtmp:// or rtmps://: the server pulls it from another server or camera. A URL starting "
                "with rtsp+http://, rtsps+http://, rtsp+ws:// or rtsps+ws://: RTSP through HTTP or WebSocket. A URL "
                "starting with http:// or https://: the server pulls an HLS stream. srt://host:port: the server pulls "
                "MPEG-TS over SRT, or waits for an encoder (docs/srt.md). udp+mpegts://host:port, "
                "unix+mpegts:///path, udp+rtp://host:port: a program sends MPEG-TS or RTP to the server "
                "(docs/udp.md). onvif://host or onvifs://host: the server asks an ONVIF camera for the address of its "
                "stream (docs/cameras.md). 'redirect': readers are sent to sourceRedirect. 'rpiCamera': the camera of "
                "a Raspberry Pi. A list of URLs is tried in order: when one fails, the next one takes over until it "
                "fails in turn; after the last one, the list starts over. An on-demand source always starts with the "
                "first URL. A path with a regular expression may have a source if sourceOnDemand is set; $G1, $G2... "
                "in its URL are then the groups of the expression."
            )
        ),
    ] = "publisher"
    rtsp_transport: Annotated[
        SourceProtocol,
        Meta(
            description=(
                "Transport used to pull an RTSP source. 'automatic' tries UDP and falls back to TCP if no packets "
                "arrive."
            )
        ),
    ] = SourceProtocol.AUTOMATIC
    rtsp_any_port: Annotated[
        bool,
        Meta(
            description=(
                "Accept UDP packets from any port of an RTSP source. Some old cameras need this; it makes it easier "
                "for others to inject packets."
            )
        ),
    ] = False
    rtsp_demux_mpegts: Annotated[
        bool,
        NEW,
        Meta(
            description=(
                "Publish what is in the MPEG transport stream of an RTSP publisher whose only track it is (MP2T), "
                "instead of the transport stream itself, which few players understand."
            )
        ),
    ] = False
    rtsp_range_type: Annotated[
        RangeType,
        RANGE_TYPE,
        NEW,
        Meta(
            description=(
                "How rtspRangeStart is written, for RTSP sources that play recordings: 'clock' (a time in UTC, such "
                "as 20260131T235959Z), 'npt' (time since the beginning, such as 10s) or 'smpte' (the same, sent as "
                "hours, minutes and seconds). Empty: the source decides."
            )
        ),
    ] = RangeType.NONE
    rtsp_range_start: Annotated[
        str, NEW, Meta(description="Where an RTSP source begins to play, in the form of rtspRangeType.")
    ] = ""
    rtsp_scale: Annotated[
        str,
        SCALE,
        NEW,
        Meta(
            description=(
                "Speed at which an RTSP source plays a recording (Scale): 2 is twice as fast, -1 backwards. Empty: "
                "normal."
            )
        ),
    ] = ""
    rtsp_udp_source_port_range: Annotated[
        tuple[int, int],
        PORT_RANGE,
        NEW,
        Meta(
            description=(
                "First and last local UDP port on which the server receives the media of an RTSP source. Each track "
                "takes an even port and the next one."
            )
        ),
    ] = (32_768, 60_999)
    rtsp_udp_read_buffer_size: Annotated[
        Size,
        NEW,
        ZERO_IS_A_VALUE,
        Meta(description="Receive buffer of the UDP sockets of an RTSP source. 0B: udpReadBufferSize."),
    ] = Size(0)
    source_fingerprint: Annotated[
        str,
        Meta(
            description=(
                "SHA-256 fingerprint (hexadecimal) of the certificate of an rtsps, rtmps or https source. When it "
                "is set, only this certificate is accepted, even if it is self-signed; certificate authorities are "
                "ignored."
            )
        ),
    ] = ""
    whep_bearer_token: Annotated[
        str,
        NEW,
        Meta(description="Bearer token sent to a whep or wheps source instead of user and password."),
    ] = ""
    whep_stun_gather_timeout: Annotated[
        Duration,
        NEW,
        ZERO_IS_A_VALUE,
        Meta(
            description=(
                "How long a whep or wheps source waits for the STUN servers that its server names, to learn its public "
                "address. 0s: they are not asked."
            )
        ),
    ] = Duration(5)
    whep_handshake_timeout: Annotated[
        Duration,
        NEW,
        Meta(description="How long a whep or wheps source may take to connect after its answer to the offer."),
    ] = Duration(10)
    whep_track_gather_timeout: Annotated[
        Duration,
        NEW,
        Meta(
            description=(
                "How long to wait for all tracks of a whep or wheps source after it has connected. When one starts "
                "later, the stream begins again with it."
            )
        ),
    ] = Duration(2)
    source_on_demand: Annotated[bool, Meta(description="Pull the source only while it has readers.")] = False
    source_on_demand_start_timeout: Annotated[
        Duration, Meta(description="How long a reader waits for an on-demand source to become ready.")
    ] = Duration(10)
    source_on_demand_close_after: Annotated[
        Duration, Meta(description="How long an on-demand source keeps running after its last reader has left.")
    ] = Duration(10)
    source_redirect: Annotated[
        str,
        URL,
        Meta(
            description=(
                "RTSP URL that readers are sent to when source is 'redirect', or, beginning with a slash, another path "
                "of this server. For readers using other protocols, the server pulls the stream itself."
            )
        ),
    ] = ""
    source_retry_pause: Annotated[
        Duration,
        NEW,
        Meta(
            description=(
                "Delay before a failed source is retried. It doubles with each consecutive failure, up to "
                "sourceRetryPauseMax."
            )
        ),
    ] = Duration(5)
    source_retry_pause_max: Annotated[
        Duration, NEW, Meta(description="The longest pause between two attempts to reach a source.")
    ] = Duration(60)
    use_absolute_timestamp: Annotated[
        bool,
        NEW,
        Meta(
            description=(
                "Use the clock of the publisher or source, as its RTCP sender reports or the dates of an HLS "
                "playlist tell it, for the reports to readers, the dates in HLS and those of recordings. Otherwise, "
                "the clock of this machine is used, and that of the publisher only if it is hardly off."
            )
        ),
    ] = False
    override_publisher: Annotated[
        bool,
        LIVE,
        Meta(
            description=(
                "Let a second publisher take over while another one is publishing. Otherwise, the second one is "
                "refused."
            )
        ),
    ] = True
    max_readers: Annotated[
        int,
        LIVE,
        NEW,
        ZERO_IS_A_VALUE,
        Meta(
            description=(
                "Maximum number of clients that read the path at the same time; more are refused. Viewers of HLS are "
                "not counted. 0: no limit. Clients that are already reading stay when the number is lowered."
            )
        ),
    ] = 0
    publisher_grace: Annotated[
        Duration,
        LIVE,
        NEW,
        Meta(
            description=(
                "How long readers stay connected after their publisher has gone, in case it reconnects. 0s "
                "disconnects them immediately."
            )
        ),
    ] = Duration(0)
    fallback: Annotated[
        str,
        URL,
        Meta(
            description=(
                "Where RTSP readers are sent while nobody publishes: another path of this server, written with a "
                "leading slash ('/other'), or an RTSP URL. Readers using protocols that cannot be redirected get "
                "the stream from there through the server."
            )
        ),
    ] = ""

    always_available: Annotated[
        bool,
        Heading("Always available"),
        NEW,
        Meta(
            description=(
                "Whether the path can be read at any time: while nobody publishes, readers get a slate, and stay "
                "connected when a publisher comes or goes. A publisher must have the tracks of the slate, in their "
                "order. Not for paths with a regular expression, nor with sourceOnDemand or runOnDemand."
            )
        ),
    ] = False
    always_available_tracks: Annotated[
        tuple[AlwaysAvailableTrack, ...],
        TRACKS,
        NEW,
        ZERO_IS_A_VALUE,
        Meta(
            description=(
                "Tracks of the slate: a list with codec and, where the codec does not determine them, sampleRate, "
                "channelCount and muLaw. Pictures (AV1, VP9, H265, H264) say that the stream is offline; sound (Opus, "
                "MPEG4Audio, G711, LPCM) is silence."
            )
        ),
    ] = ()
    always_available_file: Annotated[
        str,
        NEW,
        Meta(
            description=(
                "MP4 file that is played again and again as the slate, without being re-encoded; its tracks are those "
                "that a publisher must have. In place of alwaysAvailableTracks."
            )
        ),
    ] = ""

    forward: Annotated[
        tuple[ForwardDestination, ...],
        FORWARD,
        Heading("Forwarding"),
        LIVE,
        NEW,
        ZERO_IS_A_VALUE,
        Meta(
            description=(
                "Servers that the stream is sent to, while there is one: a list of destinations with dest, "
                "destFingerprint and whipBearerToken. A dest is a URL that starts with rtsp://, rtsps://, rtmp://, "
                "rtmps://, whip://, whips:// or srt://. Each is connected on its own, and again when it fails, without "
                "effect on the stream and its readers. Destinations that stay in the list when it is changed stay "
                "connected."
            )
        ),
    ] = ()

    transcode_audio: Annotated[
        bool,
        Heading("Conversion"),
        NEW,
        Meta(
            description=(
                "Convert sound that a reader does not support: over RTMP and HLS to AAC, over WebRTC to Opus (as "
                "webrtcTranscodeAudio does on all paths). So the Opus of browsers can be heard by RTMP clients that do "
                "not announce it, and over HLS in MPEG-TS. The sound is converted once per stream and codec, while "
                "somebody reads it. It needs the packages av and numpy, and 1 to 2 % of a processor core. Otherwise "
                "such readers get no sound."
            )
        ),
    ] = False

    record: Annotated[
        bool,
        LIVE,
        Heading("Recording"),
        NEW,
        Meta(
            description=(
                "Record the stream to disk. Can be switched at any time; publishers and readers are not interrupted."
            )
        ),
    ] = False
    record_schedule: Annotated[
        tuple[str, ...],
        LIVE,
        NEW,
        Meta(
            description=(
                "When to record, with 'record: yes': a list of periods such as 'Mon-Fri 08:00-18:00', 'Sat Mon "
                "10:00-12:00' or '22:00-06:00' (on every day), in the local time of the server. Empty: always."
            )
        ),
    ] = ()
    record_path: Annotated[
        str,
        LIVE,
        NEW,
        Meta(
            description=(
                "Names of the recorded files, without extension. Variables: %path (name of the path), %Y %m %d %H %M "
                "%S (local time), %f (microseconds), %z (time zone, such as +0200 or Z), %s (Unix time in seconds). "
                "%path is required, and either %s or all of %Y %m %d %H %M %S."
            )
        ),
    ] = DEFAULT_RECORD_PATH
    record_format: Annotated[
        RecordFormat,
        LIVE,
        NEW,
        Meta(
            description=(
                "Format of the recorded files: 'fmp4' (fragmented MP4; can be read while it is written) or 'mpegts' "
                "(MPEG-TS)."
            )
        ),
    ] = RecordFormat.FMP4
    record_part_duration: Annotated[
        Duration,
        LIVE,
        NEW,
        Meta(description="How much is written at once. If the server is killed, at most this much is lost."),
    ] = Duration(1)
    record_max_part_size: Annotated[
        Size, LIVE, NEW, Meta(description="What is written at once is at most this large, even if it is shorter.")
    ] = Size(50 * 1024 * 1024)
    record_segment_duration: Annotated[
        Duration,
        LIVE,
        NEW,
        Meta(description="Duration of the recorded files. A new file begins at the next key frame. At most one day."),
    ] = Duration(3600)
    record_delete_after: Annotated[
        Duration,
        DURATION_WITH_DAYS,
        LIVE,
        NEW,
        ZERO_IS_A_VALUE,
        Meta(description="Age at which recorded files are deleted, such as 12h or 7d. 0s: never."),
    ] = Duration(86_400)
    record_max_size: Annotated[
        Size,
        LIVE,
        NEW,
        ZERO_IS_A_VALUE,
        Meta(
            description=(
                "Maximum size of the recorded files of the path; of each path, if the entry has a regular expression. "
                "The oldest are deleted. 0B: no limit."
            )
        ),
    ] = Size(0)
    hls_dvr: Annotated[
        Duration,
        LIVE,
        NEW,
        Meta(
            description=(
                "How far back HLS viewers of a recorded stream can seek, such as 2h; a day at most. The path then has "
                "a live playlist of its recordings, 'dvr.m3u8'. It needs 'record: yes'. 0s: off."
            )
        ),
    ] = Duration(0)
    record_before: Annotated[
        Duration,
        LIVE,
        NEW,
        Meta(
            description=(
                "How much of the stream is kept in memory while it is not recorded, up to 64 MiB, so that a recording "
                "that is switched on begins with it. 0s: nothing."
            )
        ),
    ] = Duration(0)
    record_upload: Annotated[
        str,
        LIVE,
        NEW,
        Meta(
            description=(
                "Object storage that recorded files are uploaded to once they are complete, such as "
                "'s3://bucket/prefix' or 's3://bucket/prefix?endpoint=https://host:9000&region=us-east-1'. Credentials "
                "are in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY). Needs the extra 's3'. Empty: none."
            )
        ),
    ] = ""
    record_upload_delete: Annotated[
        bool,
        LIVE,
        NEW,
        Meta(description="Delete recorded files once they are uploaded. They cannot be played from then on."),
    ] = False
    record_sync: Annotated[
        bool,
        LIVE,
        NEW,
        Meta(
            description=(
                "Wait after each part until the disk has it, so that a power failure loses no more than a crash. "
                "Otherwise, it may lose what the operating system has not written yet: about half a minute."
            )
        ),
    ] = False

    publish_user: Annotated[
        str,
        CREDENTIAL,
        Heading("Authentication"),
        Meta(
            description=(
                "User name required to publish. Empty: no authentication. A value starting with 'sha256:' is the "
                "base64-encoded SHA-256 hash of the name."
            )
        ),
    ] = ""
    publish_pass: Annotated[
        str, CREDENTIAL, Meta(description="Password required to publish. May be hashed, as publishUser.")
    ] = ""
    publish_ips: Annotated[
        tuple[IPNetwork, ...],
        Meta(description="IP addresses and ranges (such as 192.168.0.0/16) that may publish. Empty: all."),
    ] = ()
    read_user: Annotated[
        str,
        CREDENTIAL,
        Meta(description="User name required to read. Empty: no authentication. May be hashed, as publishUser."),
    ] = ""
    read_pass: Annotated[
        str, CREDENTIAL, Meta(description="Password required to read. May be hashed, as publishUser.")
    ] = ""
    read_ips: Annotated[
        tuple[IPNetwork, ...], Meta(description="IP addresses and ranges that may read. Empty: all.")
    ] = ()

    srt_publish_passphrase: Annotated[
        str,
        passphrase_kind("srtPublishPassphrase"),
        NEW,
        Meta(
            description=(
                "Passphrase, of 10 to 79 characters, that encrypts what clients publish over SRT; those without it are "
                "refused. It needs the package cryptography."
            )
        ),
    ] = ""
    srt_read_passphrase: Annotated[
        str,
        passphrase_kind("srtReadPassphrase"),
        NEW,
        Meta(description="The same for clients that read the path over SRT."),
    ] = ""

    given: OwnSettings = OwnSettings()
    """The settings that the entry itself has: new defaults do not change them."""

    def broken_rules(self) -> Iterator[ConfigurationError]:
        """Yield an error for each broken rule between settings."""
        yield from range_errors(self.rtsp_range_type, self.rtsp_range_start)
        if any(source.startswith(("udp+rtp://", "unix+rtp://")) for source in self.sources) and not self.rtp_sdp:
            yield ConfigurationError(
                "`rtpSDP` was not provided (the session description of what is sent)", ("rtpSDP",), ("source",)
            )
        if "rpiCamera" in self.sources:
            yield from self.broken_rules_of_camera()
        if self.hls_dvr and not self.record:
            yield ConfigurationError("'hlsDVR' needs 'record: yes': it plays the recordings", ("hlsDVR",), ("record",))
        if self.hls_dvr > SECONDS_PER_DAY:  # segments would be too long
            yield ConfigurationError(
                "'hlsDVR' can be a day at most; use the playback server for older recordings", ("hlsDVR",)
            )
        if 0 < self.record_delete_after < self.hls_dvr:
            text = "'hlsDVR' cannot be longer than 'recordDeleteAfter'"
            yield ConfigurationError(text, ("hlsDVR",), ("recordDeleteAfter",))

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources in the order of attempts; most paths have one."""
        return (self.source,) if isinstance(self.source, str) else self.source

    @property
    def source_kind(self) -> SourceKind:
        """The kind of the first source."""
        return source_kind(self.sources[0]) or PUBLISHER

    @property
    def demands_on_publishers(self) -> Mapping[str, object]:
        """The settings that only concern clients which publish, by their keys."""
        return {
            "publishUser": self.publish_user,
            "publishIPs": self.publish_ips,
            "srtPublishPassphrase": self.srt_publish_passphrase,
        }

    @property
    def starts_on_demand(self) -> bool:
        """Whether a reader's request can start a source or a command, or leads to another stream."""
        redirects = self.source == "redirect" or bool(self.fallback)
        return self.source_on_demand or bool(self.run_on_demand) or redirects
