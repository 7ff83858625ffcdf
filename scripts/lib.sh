# Shared by the scripts: makes the Python environment from the lock files. Sourced, not run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${OAM_MOSAIC_VENV:-$root/.venv}

say() { if [ -t 2 ]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n%s\n' "$*"; fi >&2; }
behind_a_proxy="Behind a proxy that inspects TLS, set SSL_CERT_FILE and PIP_CERT to its certificate."
fail() { printf '%s\n' "$*" >&2; exit 2; }

# describe "$1" TEXT: prints TEXT and exits if $1 asks for help.
describe() {
  case $1 in -h | --help) printf '%s\n' "$2"; exit 0 ;; esac
}

# Prints the Debian mirror that this machine's own packages come from, or nothing if no package lists were read yet.
debian_mirror() {
  apt-get indextargets --format '$(REPO_URI)' 'Component: main' 'Created-By: Packages' | awk '!/security/ && !found++'
}

paths="STAC_ITEMS MOSAIC_STORE MOSAIC_SCRATCH DAGSTER_HOME TIPPECANOE SERVE_VIEWER" # the settings that are paths

# Changes to the root, where the .env file is. Relative paths in the environment still count from the caller's folder.
go_to_root() {
  local name value
  for name in $paths; do
    value=${!name-}
    case $value in
    /* | "~"* | *://*) ;; # a home folder is put in later, as in .env; an address is refused, with advice
    *[![:space:]]*) export "$name=$PWD/$value" ;;
    esac
  done
  cd "$root"
}

# Prints the path of a Python that the project supports; $PYTHON comes first.
find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.13 python3.12 python3.11 python3; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null &&
      "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  fail "Python 3.11 or newer is needed and was not found. Install it (on Debian: apt-get install python3 python3-venv)."
}

# Prints the path of the uv that requirements-build.lock locks: the one on the PATH if it is that version, else one that is
# installed beside the environment.
find_uv() {
  local lock=$root/requirements-build.lock wanted candidate python
  wanted=$(sed -nE 's/^uv==([^ ]+).*/\1/p' "$lock")
  for candidate in uv "$venv-uv/bin/uv"; do
    if [ "$("$candidate" --version 2>/dev/null | cut -d' ' -f2)" = "$wanted" ]; then
      command -v "$candidate"
      return
    fi
  done
  python=$(find_python) || exit
  "$python" -m venv --clear "$venv-uv" >&2 ||
    fail "Python cannot create virtual environments. Install its module venv (on Debian: apt-get install python3-venv)."
  "$venv-uv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --requirement "$lock" >&2 ||
    fail "uv could not be installed; see the output of pip above. $behind_a_proxy"
  echo "$venv-uv/bin/uv"
}

# Whether the environment's programs can start. They name its interpreter by its path, so not after the folder was moved,
# nor after an upgrade removed the Python that it links to.
works() {
  local first=
  read -r first 2>/dev/null <"$venv/bin/oam-mosaic"
  "$venv/bin/python" -I -S -c '' 2>/dev/null && { [ -z "$first" ] || [ -x "${first#\#!}" ]; }
}

# prepare requirements.lock | requirements-dev.lock: installs exactly what the file locks, unless that is done.
prepare() {
  local lock=$root/$1 stamp=$venv/.prepared python uv
  local wanted broken=
  wanted=$(cat "$lock" "$root/pyproject.toml" | sha256sum | cut -d' ' -f1)
  works || broken=yes
  if [ -n "$broken" ] ||
    { [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] && [ "$(cat "$stamp.dev" 2>/dev/null)" != "$wanted" ]; }; then
    python=$(find_python) || exit
    say "Installing the packages of $1 into ${venv#"$root"/}"
    uv=$(find_uv) || exit
    # a folder that is no environment may hold anything, and uv refuses it unless it is to be cleared
    [ -z "$broken" ] || "$uv" venv --quiet $([ ! -e "$venv/pyvenv.cfg" ] || echo --clear) --python "$python" "$venv"
    rm -f "$stamp" "$stamp.dev" # before the first change, as this may be interrupted at any moment
    { VIRTUAL_ENV=$venv "$uv" pip sync --quiet --require-hashes "$lock" && VIRTUAL_ENV=$venv "$uv" pip install --quiet \
      --no-deps --build-constraints "$root/requirements-build.lock" --editable "$root"; } ||
      fail "The packages could not be installed; see the output of uv above. $behind_a_proxy"
    # the development environment also has all that a run needs
    case $1 in *-dev.lock) wanted_for_run=$(cat "$root/requirements.lock" "$root/pyproject.toml" | sha256sum | cut -d' ' -f1)
      printf '%s' "$wanted_for_run" >"$stamp"; printf '%s' "$wanted" >"$stamp.dev" ;;
    *) printf '%s' "$wanted" >"$stamp" ;; esac
  fi
  export PATH=$venv/bin:$PATH VIRTUAL_ENV=$venv
  unset PYTHONDONTWRITEBYTECODE  # if set, every process compiles all of Dagster again: half of a build's work
}
