# Polycast with FFmpeg, for commands of the configuration (runOnDemand, runOnAvailable...):
#
#     docker build -t polycast .
#     docker build -t polycast:ffmpeg -f docs/docker/ffmpeg.Dockerfile docs/docker

ARG POLYCAST_IMAGE=polycast
# That of the other image: its environment belongs to Debian's Python.
ARG DEBIAN_VERSION=trixie

FROM ${POLYCAST_IMAGE} AS polycast

FROM debian:${DEBIAN_VERSION}-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 media-types netbase ca-certificates tzdata ffmpeg \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin polycast
COPY --from=polycast /opt/polycast /opt/polycast
ENV PATH="/opt/polycast/bin:${PATH}" PYTHONUNBUFFERED=1 LANG=C.UTF-8
WORKDIR /
USER 10001:10001
ENTRYPOINT ["polycast"]
