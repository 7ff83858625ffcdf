"""nginx's configuration: every public address, in front of Martin.

There is one file per release, with the release's name in it, so every answer under one configuration is from
one build. Maps on any origin may read the answers. nginx writes only below `folder`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urljoin

from oam_mosaic_assets.serving.martin import RASTER, VECTOR
from oam_mosaic_assets.settings.values import in_brackets

DEEPEST_TILE: Final = 22
"""The last zoom of the raster address; its pixels are smaller than those of the finest imagery."""

COVERAGE_ZOOM: Final = 15
"""The last zoom to assume for coverage where a release has none."""

SHUTDOWN_SECONDS: Final = 10
"""How long a worker may take to finish its requests, when nginx gets another configuration or is stopped."""

CACHING: Final = "public, max-age=60, must-revalidate"
"""For tiles: their addresses outlive a release. Contract: a new mosaic is seen within a minute."""

_NUMBERS: Final = r"(?<z>0|[1-9]\d?)/(?<x>\d{1,9})/(?<y>\d{1,9})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """What nginx serves.

    Attributes:
        folder: nginx's own, for its files; absolute.
        documents: the folder of one release's documents, with `health.json` in it, and `empty/204.png`.
        number: counts configurations; each has its own cache.
        build: the release's name; empty while there is none to serve and every tile is a 503.
        martin_port: on the loopback interface.
        zooms: first and last zoom of the vector tiles.
        raster_zooms: first and last zoom of the pictures, coverage or imagery; None if the release has none.
        titiler: where tiles deeper than the pictures are redirected to, with `{z}`, `{x}` and `{y}`.
        address: what to listen on.
        ports: of vector tiles, raster tiles, and the viewer.
        viewer: the viewer's address as clients see it.
        page: the published page's address; in a local store its key, which the viewer's port serves.
        public_files: a local store's folder and a regular expression for its public keys; None for a bucket.
        njs: nginx's JavaScript module.
        script: `tiles.js`.
        cache_mb: the most that the cache of tiles may hold, in MB.
        as_root: whether root starts it; its workers then stay root, which owns the files.
    """

    folder: Path
    documents: Path
    number: int
    build: str
    martin_port: int
    zooms: tuple[int, int]
    raster_zooms: tuple[int, int] | None
    titiler: str
    address: str
    ports: tuple[int, int, int]
    viewer: str
    page: str
    public_files: tuple[Path, str] | None
    njs: Path
    script: Path
    cache_mb: int
    as_root: bool


def nginx_configuration(front: Front) -> str:
    """The whole file."""
    vector, raster, viewer = front.ports
    return f"""\
# written by `oam-mosaic serve` for {front.build or "no release yet"}
load_module {_quoted(front.njs)};
daemon off;
{"user root;" if front.as_root else ""}
worker_processes 2;
worker_shutdown_timeout {SHUTDOWN_SECONDS}s;
pid {_quoted(front.folder / "nginx.pid")};
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
{_common(front)}
{_server(front, vector, _vector(front))}
{_server(front, raster, _raster(front))}
{_server(front, viewer, _viewer(front))}
}}
"""


def _common(front: Front) -> str:
    temporary = "\n".join(
        f"  {kind}_temp_path {_quoted(front.folder / kind)};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    zone = f"tiles_{front.number}"
    cache = front.documents.parent / "cache"
    return f"""\
{temporary}
  js_import tiles from {_quoted(front.script)};
  js_set $tile tiles.tile;
  js_set $row tiles.row;
  js_set $dollar tiles.dollar;
  access_log off;
  log_not_found off;
  server_tokens off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 100000;
  absolute_redirect off;
  default_type text/plain;
  types {{
    text/html html;  text/css css;  text/javascript js mjs;  application/json json map;
    application/geo+json geojson;  application/xml xml;  application/manifest+json webmanifest;
    image/png png;  image/svg+xml svg;  image/webp webp;  image/x-icon ico;  font/woff2 woff2;
    application/vnd.pmtiles pmtiles;  application/x-protobuf pbf mvt;
  }}
  gzip on;
  gzip_vary on;
  gzip_proxied any;
  gzip_types text/plain text/css text/javascript application/json application/geo+json application/xml
    application/manifest+json image/svg+xml;
  gunzip on;  # vector tiles are kept as the archive holds them

  proxy_cache_path {_quoted(cache)} levels=1:2 keys_zone={zone}:8m max_size={front.cache_mb}m inactive=1d
    use_temp_path=off;
  proxy_cache {zone};
  proxy_cache_key "$server_port/$tile";
  proxy_cache_valid 200 204 1d;
  proxy_cache_lock on;
  proxy_cache_use_stale error timeout updating http_500 http_502 http_503 http_504;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_set_header Accept "";
  proxy_set_header Accept-Encoding gzip;
  proxy_intercept_errors on;
  proxy_connect_timeout 5s;
  proxy_read_timeout 30s;
  upstream martin {{ server 127.0.0.1:{front.martin_port} max_fails=0;  keepalive 32; }}

  map $status $caching {{ default "no-store";  200 "{CACHING}";  204 "{CACHING}";  206 "{CACHING}";
    302 "{CACHING}";  304 "{CACHING}"; }}
  map $uri $lasting {{ default $caching;  ~/viewer/assets/ "public, max-age=31536000, immutable";
    /health.json "no-store"; }}
  map $status $caching_of_all {{ default $caching;  200 $lasting;  304 $lasting; }}
  map $status $retry_after {{ default "";  503 10; }}
  map $request_method $allowed {{ default "GET, HEAD, OPTIONS";  GET "";  HEAD ""; }}
  add_header Access-Control-Allow-Origin "*" always;
  add_header Access-Control-Allow-Methods "GET, HEAD, OPTIONS" always;
  add_header Access-Control-Allow-Headers "*" always;
  add_header Access-Control-Expose-Headers "ETag, Content-Range, Content-Length, X-Mosaic-Build" always;
  add_header Access-Control-Max-Age 86400 always;
  add_header Cache-Control $caching_of_all always;
  add_header Retry-After $retry_after always;
  add_header Allow $allowed always;
  add_header X-Mosaic-Build "{front.build}" always;
  add_header X-Content-Type-Options nosniff always;
"""


def _server(front: Front, port: int, locations: str) -> str:
    every = " ipv6only=off" if ":" in front.address else ""  # so that `::` is every IPv4 address, too
    return f"""\
  server {{
    listen {in_brackets(front.address)}:{port}{every};
    if ($request_method = OPTIONS) {{ return 204; }}
    if ($request_method !~ ^(GET|HEAD)$) {{ return 405 "Only GET, HEAD and OPTIONS are answered here.\\n"; }}
    error_page 500 502 503 504 =503 @unreadable;
    location @unreadable {{
      types {{ }}
      return 503 "The archive cannot be read at the moment; try again in a few seconds.\\n";
    }}
    location = /health {{
      {_root(front.documents)}
      {"try_files /health.json =500;" if front.build else "error_page 503 /health.json;  return 503;"}
    }}
    location = /health.json {{ {_root(front.documents)} }}
    error_page 404 @nothing;  # what is for ourselves alone
    location @nothing {{
      types {{ }}
      return 404 "There is nothing at this address.\\n";
    }}
{locations}
  }}
"""


def _vector(front: Front) -> str:
    first, last = front.zooms
    return _unless_empty(
        front,
        f"""\
    location = /{VECTOR} {{ default_type application/json;  try_files /{VECTOR}.json @nothing;
      {_root(front.documents)} }}
    location ~ "^/(?<tms>tms/)?(?:{VECTOR}|global-mosaic)/{_NUMBERS}(?:\\.(?:mvt|pbf))?$" {{
      set $first {first};
      set $last {last};
      if ($tile = "") {{ rewrite ^ /impossible last; }}
      proxy_pass http://martin/{VECTOR}/$tile;
    }}
{_impossible(first, last)}""",
    )


def _raster(front: Front) -> str:
    redirected = front.titiler.replace("{z}", "${z}").replace("{x}", "${x}").replace("{y}", "${row}")
    coverage = f"""\
      auth_request /probe;  # only what comes after it can see that the archive has no tile here
      auth_request_set $found $status;
      {_root(front.documents)}
      try_files /empty/$found.png @coverage;
    }}
    location = /probe {{ internal;  proxy_pass http://martin/{RASTER}/$tile; }}
    location @coverage {{ proxy_pass http://martin/{RASTER}/$tile; }}"""
    none = """\
      rewrite ^ /none last;
    }
    location = /none {
      internal;
      return 404 "This release has no raster coverage; the vector tiles show the same.\\n";
    }"""
    first = front.raster_zooms[0] if front.raster_zooms else 0
    return _unless_empty(
        front,
        f"""\
    location ~ "^/(?<tms>tms/)?{_NUMBERS}\\.png$" {{
      set $first {first};
      set $last {DEEPEST_TILE};
      if ($tile = "") {{ rewrite ^ /impossible last; }}
      if ($z ~ "^({_deeper(front)})$") {{ return 302 "{redirected}"; }}
{coverage if front.raster_zooms else none}
{_impossible(first, DEEPEST_TILE)}""",
    )


def _viewer(front: Front) -> str:
    files = ""
    if front.public_files:
        root, public = front.public_files
        folder, index = Path(front.page).parent, Path(front.page).name
        files = f"""
    location = "/{front.page}" {{ {_root(root)}  try_files $uri @no_page; }}
    location @no_page {{
      types {{ }}
      return 404 "The page is not published: build it (scripts/build-viewer), then publish.\\n";
    }}
    location = "/{folder}" {{ return 302 "{folder.name}/{index}$is_args$args"; }}
    location = "/{folder}/" {{ return 302 "{index}$is_args$args"; }}
    location ~ "^/({public})$" {{ {_root(root)} }}"""
    return f"""\
    location / {{ return 404; }}
    location = / {{ return 302 "{front.page}$is_args$args"; }}{files}"""


def _impossible(first: int, last: int) -> str:
    return f"""\
    location = /impossible {{
      internal;
      return 404 "There is no such tile: zooms are {first} to {last}, x and y below 2 to the power of z.\\n";
    }}"""


def _unless_empty(front: Front, tiles: str) -> str:
    """The way to the page, and documents and tiles; or, while there are none, that nothing can be served."""
    page = urljoin(front.viewer + "/", front.page)
    to_page = f"""\
    location ~ ^/viewer/?$ {{ return 302 "{page}$is_args$args"; }}
"""
    if front.build:
        return f"""\
    location / {{ {_root(front.documents)}  try_files $uri @nothing; }}
{to_page}{tiles}"""
    return f"""\
    location / {{
      types {{ }}
      return 503 "Nothing can be served yet; try again later.\\n";
    }}
{to_page}"""


def _deeper(front: Front) -> str:
    """A regular expression for the zooms that are not of the pictures but of the images themselves."""
    last = front.raster_zooms[1] if front.raster_zooms else COVERAGE_ZOOM
    return "|".join(map(str, range(last + 1, DEEPEST_TILE + 1)))


def _root(folder: Path) -> str:
    """The directive for a folder of files; the only one with a path in which nginx looks for variables."""
    return f"root {_quoted(folder).replace('$', '${dollar}')};"


def _quoted(path: Path) -> str:
    """A path quoted for nginx."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
