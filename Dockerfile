# Polycast in a small image, without FFmpeg (docs/docker/ffmpeg.Dockerfile adds it):
#
#     docker build -t polycast .
#     docker run --rm -it --network=host polycast

ARG DEBIAN_VERSION=trixie

FROM debian:${DEBIAN_VERSION}-slim AS build
WORKDIR /source
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        python3 python3-pip binutils busybox ca-certificates media-types netbase tzdata \
    && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml README.md LICENSE THIRD_PARTY.md packaging/docker/root.sh ./
COPY src ./src
# The environment gets no pip of its own: nothing is installed into it later. Without debug information, binary packages
# are a third smaller.
RUN /usr/bin/python3 -m venv --without-pip /opt/polycast \
    && /usr/bin/python3 -m pip --python /opt/polycast/bin/python install --no-cache-dir ".[tls,webrtc,cluster]" \
    && find /opt/polycast -name '*.so*' -type f -exec strip --strip-unneeded {} +
# The image consists of what runs, not of a whole Debian: of its 80 MB, Polycast needs 12.
RUN sh root.sh /root-of-image \
    && chroot /root-of-image /opt/polycast/bin/polycast --version

FROM scratch
COPY --from=build /root-of-image /
ENV PATH="/opt/polycast/bin:/usr/bin" PYTHONUNBUFFERED=1 LANG=C.UTF-8
WORKDIR /
# RTSP, RTSPS; nodes of a cluster; RTP, RTCP; RTMP, RTMPS; HLS; API, metrics, profiles
EXPOSE 8554/tcp 8322/tcp 8600/tcp 8000/udp 8001/udp 1935/tcp 1936/tcp 8888/tcp 8889/tcp 8189/udp 8890/udp 9996/tcp 9997/tcp 9998/tcp 9999/tcp
# A number, so that Kubernetes sees that it is not root.
USER 10001:10001
# The configuration is /rtsp-simple-server.yml, /mediamtx.yml or /polycast.yml, if there is one, unless an argument names
# another one. Without one, every path may be published and read, and the variables' prefix (RTSP_, MTX_, POLYCAST_) tells
# whose names and defaults apply.
ENTRYPOINT ["polycast"]
