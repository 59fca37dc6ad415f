"""The commands of a path, which are part of its settings."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from polycast.config.marks import LIVE, NEW, Heading
from polycast.config.spelling import yaml_key
from polycast.config.values import Duration


class CommandConfiguration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=yaml_key):
    """The settings of a path about commands."""

    run_on_init: Annotated[
        str,
        LIVE,
        Heading("Commands of the path", after="Authentication"),
        Meta(
            description=(
                "Command that runs while the path exists, that is, from the start of the server. Not for paths with "
                "a regular expression. The path name and the RTSP port are passed in RTSP_PATH and RTSP_PORT."
            )
        ),
    ] = ""
    run_on_init_restart: Annotated[bool, LIVE, Meta(description="Restart the runOnInit command when it exits.")] = False
    run_on_demand: Annotated[
        str,
        Meta(
            description=(
                "Command started when a reader requests the path and nobody is publishing; the command is expected "
                "to publish to it. It is stopped when there are no readers left. RTSP_PATH (also as MTX_PATH), "
                "RTSP_PORT, the groups of a regular expression (G1, G2, ...) and MTX_QUERY (the query of the first "
                "reader's URL, percent-encoded) are in its environment."
            )
        ),
    ] = ""
    run_on_demand_restart: Annotated[bool, Meta(description="Restart the runOnDemand command when it exits.")] = False
    run_on_demand_start_timeout: Annotated[
        Duration, Meta(description="How long a reader waits for the runOnDemand command to publish.")
    ] = Duration(10)
    run_on_demand_close_after: Annotated[
        Duration, Meta(description="How long the runOnDemand command keeps running after the last reader has left.")
    ] = Duration(10)
    run_on_un_demand: Annotated[
        str,
        LIVE,
        NEW,
        Meta(description="Command that runs once after the runOnDemand command was stopped, with its variables."),
    ] = ""
    run_on_available: Annotated[
        str,
        LIVE,
        Meta(
            description=(
                "Command that runs while the stream can be read; it is stopped when the stream ends. The variables of "
                "runOnDemand are available, and MTX_SOURCE_TYPE, MTX_SOURCE_ID and MTX_QUERY (that of the publisher's "
                "URL)."
            )
        ),
    ] = ""
    run_on_available_restart: Annotated[
        bool, LIVE, Meta(description="Restart the runOnAvailable command when it exits.")
    ] = False
    run_on_unavailable: Annotated[
        str,
        LIVE,
        NEW,
        Meta(description="Command that runs once when the stream has ended, with the variables of runOnAvailable."),
    ] = ""
    run_on_online: Annotated[
        str,
        LIVE,
        NEW,
        Meta(
            description=(
                "Command that runs while a publisher or source delivers the stream. It differs from runOnAvailable "
                "where the stream can also be read without one, for example with publisherGrace. The same variables."
            )
        ),
    ] = ""
    run_on_online_restart: Annotated[
        bool, LIVE, NEW, Meta(description="Restart the runOnOnline command when it exits.")
    ] = False
    run_on_offline: Annotated[
        str,
        LIVE,
        NEW,
        Meta(
            description=(
                "Command that runs once when the publisher or source has gone, with the variables of runOnOnline."
            )
        ),
    ] = ""
    run_on_read: Annotated[
        str,
        LIVE,
        Meta(
            description=(
                "Command that runs for each reader while it reads, HLS viewers included. The variables of runOnDemand "
                "are available, and MTX_READER_TYPE, MTX_READER_ID and MTX_QUERY (that of the reader's URL)."
            )
        ),
    ] = ""
    run_on_unread: Annotated[
        str,
        LIVE,
        NEW,
        Meta(description="Command that runs once when a reader has left, with the variables of runOnRead."),
    ] = ""
    run_on_read_restart: Annotated[bool, LIVE, Meta(description="Restart the runOnRead command when it exits.")] = False
    run_on_record_segment_create: Annotated[
        str,
        LIVE,
        NEW,
        Meta(
            description=(
                "Command that runs when a recorded file was created. The variables of runOnInit are available, and "
                "MTX_SEGMENT_PATH (name of the file)."
            )
        ),
    ] = ""
    run_on_record_segment_complete: Annotated[
        str,
        LIVE,
        NEW,
        Meta(
            description=(
                "Command that runs when a recorded file is complete. The variables of runOnRecordSegmentCreate are "
                "available, and MTX_SEGMENT_DURATION (in seconds)."
            )
        ),
    ] = ""
