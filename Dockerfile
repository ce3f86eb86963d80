# syntax=docker/dockerfile:1
# One image for everything: lazyfs (mount, pull, warm), lazyfs-csi and lazyfs-mounter.
# Python 3.11 and libfuse 3.14 of Debian 12 are what the tests run on.
ARG BASE=python:3.11.14-slim-bookworm

FROM ${BASE} AS build
# pyfuse3 comes as source, and is made for the libfuse of this Debian.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev libfuse3-dev pkg-config \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY lazyfs lazyfs
COPY csi csi
# Of what botocore knows of AWS, all but S3 and who hands out credentials stays behind.
RUN python -m venv --without-pip /opt/lazyfs \
 && pip --python /opt/lazyfs/bin/python install --no-cache-dir '.[csi]' \
 && strip /opt/lazyfs/lib/python3.*/site-packages/pyfuse3/*.so \
 && cd /opt/lazyfs/lib/python3.*/site-packages/botocore/data \
 && find . -mindepth 1 -maxdepth 1 -type d \
      ! -name s3 ! -name sso ! -name sso-oidc ! -name signin ! -name sts -exec rm -r {} +

FROM ${BASE}
ARG BASE
ARG VERSION=0.1.0
ARG REVISION=""
LABEL org.opencontainers.image.title="lazyfs" \
      org.opencontainers.image.description="Mounts model directories from object storage at once" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/library/${BASE}"
RUN apt-get update \
 && apt-get install --yes --no-install-recommends fuse3 \
 && rm -rf /var/lib/apt/lists/* \
 && install --directory --mode=0700 --owner=65534 --group=65534 /var/cache/lazyfs
COPY --from=build /opt/lazyfs /opt/lazyfs
ENV PATH=/opt/lazyfs/bin:/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    LAZYFS_CACHE_DIR=/var/cache/lazyfs
# Nothing but mounting needs root: what mounts says so itself.
USER 65534:65534
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["lazyfs", "ready"]
ENTRYPOINT ["lazyfs"]
CMD ["--help"]
