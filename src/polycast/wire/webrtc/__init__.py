"""The WebRTC engine: ICE, SRTP, offer and answer, RTCP feedback. No sockets, no clock; DTLS lies in `polycast.net`."""
