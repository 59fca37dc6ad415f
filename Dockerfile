# Polycast in a small image, without FFmpeg (docs/docker/ffmpeg.Dockerfile adds it):
#
#     docker build -t polycast .
#     docker run --rm -it --network=host polycast

ARG PYTHON_VERSION=3.13

FROM python:${PYTHON_VERSION}-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE THIRD_PARTY.md ./
COPY src ./src
# The environment gets no pip of its own: nothing is installed into it later. Without debug information, binary packages
# are a third smaller.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv --without-pip /opt/polycast \
    && pip --python /opt/polycast/bin/python install --no-cache-dir ".[tls,webrtc,cluster]" \
    && find /opt/polycast -name '*.so*' -type f -exec strip --strip-unneeded {} +

FROM python:${PYTHON_VERSION}-slim
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin polycast
COPY --from=build /opt/polycast /opt/polycast
ENV PATH="/opt/polycast/bin:${PATH}" PYTHONUNBUFFERED=1
WORKDIR /
# RTSP, RTSPS; nodes of a cluster; RTP, RTCP; RTMP, RTMPS; HLS; API, metrics, profiles
EXPOSE 8554/tcp 8322/tcp 8600/tcp 8000/udp 8001/udp 1935/tcp 1936/tcp 8888/tcp 8889/tcp 8189/udp 8890/udp 9996/tcp 9997/tcp 9998/tcp 9999/tcp
# A number, so that Kubernetes sees that it is not root.
USER 10001:10001
# The configuration is /rtsp-simple-server.yml, /mediamtx.yml or /polycast.yml, if there is one, unless an argument names
# another one. Without one, every path may be published and read, and the variables' prefix (RTSP_, MTX_, POLYCAST_) tells
# whose names and defaults apply.
ENTRYPOINT ["polycast"]
