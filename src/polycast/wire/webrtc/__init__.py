"""The WebRTC engine: ICE, SRTP, offer and answer, RTCP feedback. No sockets, no clock; DTLS is in `polycast.net`."""
