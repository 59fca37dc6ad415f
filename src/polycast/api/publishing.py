"""The arguments of ``publish``, common to the server and the client."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from polycast.api.audio_encoder import AudioEncoder, AudioSettings
from polycast.api.video_encoder import VideoEncoder, VideoSettings
from polycast.api.writer import CodedWriter, Publishing, Writer
from polycast.media.codec import Codec
from polycast.media.track import Track

Open = Callable[[Sequence[Track]], Publishing]
"""Opens the destination of a writer."""


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """See `Server.publish`."""

    size: tuple[int, int] | None
    rate: float
    format: str
    codec: str
    encoder: str | None
    hardware: bool
    bitrate: int | None
    key_interval: float
    options: Mapping[str, str] | None
    sample_rate: int | None
    channels: int
    audio_codec: str
    audio_bitrate: int | None
    pace: bool


def open_writer(open_publishing: Open, options: PublishOptions) -> Writer:
    """Open the encoders, then the destination. Raises ValueError, MissingDependency or UnsupportedCodec."""
    video_settings, audio_settings = _settings(options)
    video = VideoEncoder(video_settings) if video_settings is not None else None
    audio = AudioEncoder(audio_settings) if audio_settings is not None else None
    tracks = [Track(index, coder.codec) for index, coder in enumerate(coder for coder in (video, audio) if coder)]
    return Writer(open_publishing(tracks), tracks, video, audio, video_settings, pace=options.pace)


def open_coded_writer(open_publishing: Open, tracks: Sequence[Codec | Track]) -> CodedWriter:
    """Open the destination of encoded frames. Raises ValueError without tracks."""
    if not tracks:
        raise ValueError("publish needs at least one track")
    described = [
        Track(index, track.codec, None, track.language, track.title)
        if isinstance(track, Track)
        else Track(index, track)
        for index, track in enumerate(tracks)
    ]
    return CodedWriter(open_publishing(described), described)


def _settings(options: PublishOptions) -> tuple[VideoSettings | None, AudioSettings | None]:
    if options.size is None and options.sample_rate is None:
        raise ValueError("publish needs a size (width, height) for video, a sample_rate for audio, or tracks")
    video = audio = None
    if options.size is not None:
        width, height = options.size
        video = VideoSettings(
            width,
            height,
            options.rate,
            options.format,
            options.codec,
            options.encoder,
            options.hardware,
            options.bitrate,
            options.key_interval,
            options.options,
        )
        video.check()
    if options.sample_rate is not None:
        audio = AudioSettings(options.sample_rate, options.channels, options.audio_codec, options.audio_bitrate)
        audio.check()
    return video, audio
