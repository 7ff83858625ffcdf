# The image with the tile server: the Dockerfile's image, plus a compiled Martin and Debian's nginx.
#
#   docker build -t oam-mosaic . && docker build -t oam-mosaic-serve -f deploy/serve.Dockerfile .
#
# `scripts/check-image serve` builds both and requests tiles from the second.

ARG IMAGE=oam-mosaic

FROM docker.io/library/rust:1.95-slim-bookworm AS martin

# the one that the tests run against
COPY scripts/install-martin /install-martin
RUN OAM_MOSAIC_CACHE=/cache bash /install-martin && mv /cache/martin-* /martin


FROM $IMAGE

USER root
# hadolint ignore=DL3008  # Debian's stable suite keeps its versions
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends nginx-light libnginx-mod-http-js \
 && rm -rf /var/lib/apt/lists/*
COPY --from=martin /martin/bin/martin /usr/local/bin/martin

# all interfaces of the container; which ports are published is decided where it runs
ENV SERVE_ADDRESS=0.0.0.0
USER 10001
EXPOSE 3004 8084 8085
CMD ["oam-mosaic", "serve"]
