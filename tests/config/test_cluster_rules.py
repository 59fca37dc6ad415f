"""The rules between the settings of a cluster."""

from __future__ import annotations

from typing import Any

import pytest

from polycast.config import from_mapping
from polycast.errors import ConfigurationError

WITH = {"cluster": ["nats://a:4222"], "clusterToken": "secret"}


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"clusterToken": ""}, "'clusterToken' must be set"),
        ({"workers": 2}, "'workers' must be 1 if 'cluster' is set"),
        ({"workers": "auto"}, "'workers' must be 1 if 'cluster' is set"),
        ({"cluster": ["http://a"]}, "not 'http://a'"),
        ({"clusterEncryption": True}, "'clusterCA' must be set if 'clusterEncryption' is"),
        ({"nodeName": "x" * 65}, "more than 64 characters"),
    ],
)
def test_broken_rules(values: dict[str, Any], error: str) -> None:
    assert from_mapping(WITH).cluster == ("nats://a:4222",)
    with pytest.raises(ConfigurationError, match=error):
        from_mapping({**WITH, **values})
