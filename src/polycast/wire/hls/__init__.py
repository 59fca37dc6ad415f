"""HTTP Live Streaming (RFC 8216, draft-pantos-hls-rfc8216bis): segmenting, playlists and their parser, without I/O."""
