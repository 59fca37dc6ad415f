# Polycast with FFmpeg, for commands of the configuration (runOnDemand, runOnAvailable...):
#
#     docker build -t polycast .
#     docker build -t polycast:ffmpeg -f docs/docker/ffmpeg.Dockerfile docs/docker

ARG POLYCAST_IMAGE=polycast
FROM ${POLYCAST_IMAGE}
USER root
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ffmpeg \
    && rm -rf /var/lib/apt/lists/*
USER 10001:10001
