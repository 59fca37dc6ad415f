"""The scenarios as a table: load, floors and targets."""

from bench import (
    floor,
    hls_files,
    hls_floor,
    hls_load,
    hls_load_h2,
    nginx,
    relay,
    rtmp_load,
    rtsp_load,
    srt_load,
    webrtc_load,
)
from bench.model import Floor, Measurement, Protocol, Scenario, Target

PROTOCOLS = {
    "rtsp": Protocol(rtsp_load.publish, rtsp_load.read),
    "rtmp": Protocol(rtmp_load.publish, rtmp_load.read, (nginx.find,)),
    "webrtc": Protocol(webrtc_load.publish, webrtc_load.read),
    "srt": Protocol(srt_load.publish, srt_load.read),
    "srt-aes": Protocol(srt_load.publish, srt_load.read_encrypted),
    "hls": Protocol(hls_load.publish_plain, hls_load.read_plain, (hls_files.find_plain,), warm_up=5.0),
    "hls-ll": Protocol(
        hls_load.publish_low_latency, hls_load.read_low_latency, (hls_files.find_low_latency,), warm_up=5.0
    ),
    "hls-ll-h2": Protocol(hls_load.publish_low_latency, hls_load_h2.read_low_latency, warm_up=5.0),
}

FLOORS = {
    "send": Floor(floor.send_tcp, floor.read_tcp, needs_port=True),
    "message": Floor(floor.send_rtmp, floor.read_rtmp, needs_port=True),
    "sendto": Floor(floor.send_udp, floor.read_udp, needs_port=False),
    "segmented": Floor(floor.send_udp_segmented, floor.read_udp, needs_port=False),
    "AES-GCM, segmented": Floor(floor.send_srtp, floor.read_srtp, needs_port=False),
    "AES-CTR, segmented": Floor(floor.send_counter_mode, floor.read_unreadable, needs_port=False),
    "segmented, acknowledged": Floor(floor.send_acknowledged, floor.read_acknowledging, needs_port=True),
    "AES-CTR, segmented, acknowledged": Floor(
        floor.send_counter_mode_acknowledged, floor.read_acknowledging_blindly, needs_port=True
    ),
    "TLS requests": Floor(hls_floor.serve, hls_floor.read, needs_port=True),
}

NOTHING_LOST = Target("lost_packets", 0)
SRT_DELAY = Target("delay_p99_ms", 175)
"""The receiver's delay of 120 ms, and a frame: one of MPEG-TS ends where the next one begins."""
RATIO = Target("ratio", 1.8)
UDP_FLOORS = ("sendto", "segmented")
SRT_FLOORS = ("segmented, acknowledged", "segmented")
COUNTER_FLOORS = ("AES-CTR, segmented, acknowledged", "AES-CTR, segmented")
CIPHER_FLOOR = ("AES-GCM, segmented",)

SCENARIOS = (
    Scenario("idle", "rtsp", "none", 0, 0, (), (Target("resident_mb", 45), Target("start_seconds", 0.5))),
    Scenario("tcp-1", "rtsp", "tcp", 1, 1, ("send",), (NOTHING_LOST,)),
    Scenario("tcp-10", "rtsp", "tcp", 1, 10, ("send",), (NOTHING_LOST,)),
    Scenario("tcp-100", "rtsp", "tcp", 1, 100, ("send",), (RATIO, NOTHING_LOST, Target("delay_p99_ms", 5))),
    Scenario("tcp-500", "rtsp", "tcp", 1, 500, ("send",), (RATIO, NOTHING_LOST)),
    Scenario("tcp-1000", "rtsp", "tcp", 1, 1000, ("send",), (RATIO, NOTHING_LOST)),
    Scenario("tcp-2000", "rtsp", "tcp", 1, 2000, ("send",), (RATIO, NOTHING_LOST)),
    Scenario("udp-1", "rtsp", "udp", 1, 1, UDP_FLOORS, (NOTHING_LOST,)),
    Scenario("udp-100", "rtsp", "udp", 1, 100, UDP_FLOORS, (NOTHING_LOST,)),
    Scenario("udp-500", "rtsp", "udp", 1, 500, UDP_FLOORS, (Target("cpu_per_gigabit", 0.25), NOTHING_LOST)),
    Scenario("rtmp-1", "rtmp", "tcp", 1, 1, ("message",), (NOTHING_LOST,)),
    Scenario("rtmp-10", "rtmp", "tcp", 1, 10, ("message",), (NOTHING_LOST,)),
    Scenario("rtmp-100", "rtmp", "tcp", 1, 100, ("message",), (RATIO, NOTHING_LOST)),
    Scenario("rtmp-500", "rtmp", "tcp", 1, 500, ("message",), (RATIO, NOTHING_LOST)),
    Scenario("rtmp-1000", "rtmp", "tcp", 1, 1000, ("message",), (RATIO, NOTHING_LOST)),
    Scenario(
        "rtmp-streams-100", "rtmp", "tcp", 100, 100, ("message",), (Target("cpu_per_gigabit", 0.40), NOTHING_LOST)
    ),
    Scenario("webrtc-1", "webrtc", "udp", 1, 1, CIPHER_FLOOR, (NOTHING_LOST,)),
    Scenario("webrtc-100", "webrtc", "udp", 1, 100, CIPHER_FLOOR, (NOTHING_LOST, Target("delay_p99_ms", 10))),
    Scenario("webrtc-500", "webrtc", "udp", 1, 500, CIPHER_FLOOR, (NOTHING_LOST, Target("cpu_per_gigabit", 0.30))),
    Scenario("webrtc-streams-100", "webrtc", "udp", 100, 100, CIPHER_FLOOR, (NOTHING_LOST,)),
    Scenario("srt-1", "srt", "udp", 1, 1, SRT_FLOORS, (NOTHING_LOST,)),
    Scenario("srt-100", "srt", "udp", 1, 100, SRT_FLOORS, (NOTHING_LOST, SRT_DELAY)),
    Scenario("srt-500", "srt", "udp", 1, 500, SRT_FLOORS, (NOTHING_LOST, Target("cpu_per_gigabit", 0.20))),
    Scenario("srt-aes-1", "srt-aes", "udp", 1, 1, COUNTER_FLOORS, (NOTHING_LOST,)),
    Scenario("srt-aes-100", "srt-aes", "udp", 1, 100, COUNTER_FLOORS, (NOTHING_LOST, SRT_DELAY)),
    Scenario("srt-aes-500", "srt-aes", "udp", 1, 500, COUNTER_FLOORS, (NOTHING_LOST, Target("cpu_per_gigabit", 0.35))),
    Scenario("srt-streams-100", "srt", "udp", 100, 100, SRT_FLOORS, (NOTHING_LOST,)),
    Scenario("hls-200", "hls", "tcp", 1, 200, (), (NOTHING_LOST,)),
    Scenario("hls-ll-100", "hls-ll", "tcp", 1, 100, ("TLS requests",), (NOTHING_LOST, Target("delay_p99_ms", 20))),
    Scenario("hls-ll-1000", "hls-ll", "tcp", 1, 1000, ("TLS requests",), (NOTHING_LOST, Target("delay_p99_ms", 20))),
    Scenario("hls-ll-h2-100", "hls-ll-h2", "tcp", 1, 100, (), (NOTHING_LOST, Target("delay_p99_ms", 20))),
    Scenario("hls-ll-h2-1000", "hls-ll-h2", "tcp", 1, 1000, (), (NOTHING_LOST, Target("delay_p99_ms", 40))),
    Scenario(
        "sources-500",
        "sources",
        "tcp",
        500,
        0,
        (),
        (Target("ready_seconds", 30), Target("return_seconds", 30), Target("peak_attempts", 300)),
    ),
    *(
        Scenario(
            f"record-{name}-100",
            "rtsp",
            "tcp",
            100,
            100,
            (),
            (NOTHING_LOST, Target("recording_share", 0.08)),
            recording=name,
        )
        for name in ("fmp4", "mpegts")
    ),
    Scenario("streams-100", "rtsp", "tcp", 100, 100, ("send",), (NOTHING_LOST,)),
    Scenario(
        "streams-300",
        "rtsp",
        "tcp",
        300,
        300,
        ("send",),
        (Target("core_share", 0.60), NOTHING_LOST),
        (relay.subject,),
    ),
)


def missed_targets(scenario: Scenario, measurement: Measurement) -> list[str]:
    """One sentence per target that the measurement misses."""
    missed = []
    for target in scenario.targets:
        value = getattr(measurement, target.metric)
        if value is None or value > target.limit:
            found = "nothing" if value is None else f"{value:.4g}"
            missed.append(f"{target.metric} {found}, at most {target.limit:g} wanted")
    return missed
