#!/bin/sh
# Writes the locks from pyproject.toml and constraints.txt: every package that an image installs, with the SHA-256 of its files on
# the package index. Run it after constraints.txt has changed; a test compares them.
set -eu
cd "$(dirname "$0")/../.."
tools=${LOCK_VENV:-.venv-audit}
python=${PYTHON:-python3}
test -x "$tools/bin/uv" || {
    test -x "$tools/bin/python" || "$python" -m venv "$tools"
    "$tools/bin/pip" install --quiet 'uv==0.13.9'
}
lock() {
    file=deploy/locks/$1
    shift
    "$tools/bin/uv" pip compile --quiet --universal --python-version 3.11 --constraints constraints.txt \
        --generate-hashes --no-header --no-annotate --output-file "$file" "$@"
}
lock orchestrator.txt pyproject.toml --extra orchestrator --extra otel --extra c2pa
lock embedded.txt pyproject.toml --extra editor --extra thinker --extra otel
echo hatchling > "${TMPDIR:-/tmp}/build.$$.in"
trap 'rm -f "${TMPDIR:-/tmp}/build.$$.in"' EXIT
lock build.txt "${TMPDIR:-/tmp}/build.$$.in"
