"""Stream ids: both forms."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polycast.errors import RemoteProtocolError
from polycast.wire.srt.stream_id import StreamId, parse_stream_id


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("read:cam", StreamId("cam", False)),
        ("publish:floor/door", StreamId("floor/door", True)),
        ("read:cam:a=b", StreamId("cam", False, query="a=b")),
        ("publish:cam:user:pass", StreamId("cam", True, "user", "pass")),
        ("publish:cam:user:pass:a=b", StreamId("cam", True, "user", "pass", "a=b")),
        ("publish:cam#feedbackplay", StreamId("cam", True)),
        ("publish:cam:u:p#feedbackplay", StreamId("cam", True, "u", "p")),
        ("publish:cam::", StreamId("cam", True)),
        ("#!::r=cam", StreamId("cam", False)),
        ("#!::r=cam,m=publish", StreamId("cam", True)),
        ("#!::m=request,r=cam,u=me,s=secret", StreamId("cam", False, "me", "secret")),
        ("#!::h=host,t=stream,r=cam,x=y,m=publish", StreamId("cam", True)),
        ("publish:/cam", StreamId("cam", True)),
        ("publish:live?token=a:b", StreamId("live", True, query="token=a:b")),
        ("#!::m= publish,r=cam", StreamId("cam", True)),
        ("read:floor/door/?token=x", StreamId("floor/door", False, query="token=x")),
        ("publish:cam?a=b:user:pass:c=d", StreamId("cam", True, "user", "pass", "a=b&c=d")),
        ("#!::r=/cam,m=publish,", StreamId("cam", True)),
        ("#!:: r=cam, m=publish", StreamId("cam", True)),
        ("#!::r=cam?a=b=c,u=me", StreamId("cam", False, "me", query="a=b=c")),
    ],
)
def test_what_is_wanted(text: str, expected: StreamId) -> None:
    assert parse_stream_id(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "stream ID must be 'action:pathname"),
        ("cam", "stream ID must be"),
        ("write:cam", "stream ID must be"),
        ("read:a:b:c:d:e", "stream ID must be"),
        ("#!::r=cam,m=bidirectional", "unsupported mode 'bidirectional'"),
        ("#!::r=cam,publish", "invalid value 'publish'"),
        ("read:cam\n", "cannot be printed"),
    ],
)
def test_what_is_invalid(text: str, message: str) -> None:
    with pytest.raises(RemoteProtocolError, match=re.escape(message)):
        parse_stream_id(text)


@given(st.text(max_size=512))
def test_any_text_is_accepted_or_refused(text: str) -> None:
    try:
        parse_stream_id(text)
    except RemoteProtocolError:
        pass
