#!/bin/sh
# Known vulnerabilities of every pinned package: exit 0 if there are none, 1 if there are, 3 if OSV is unreachable.
set -eu
tools=${AUDIT_VENV:-.venv-audit}
python=${PYTHON:-python3}
test -x "$tools/bin/pip-audit" || {
    "$python" -m venv "$tools"
    "$tools/bin/pip" install --quiet 'cyclonedx-bom==7.5.0' 'pip-audit==2.10.1'
}
if ! "$python" -c 'import socket; socket.create_connection(("api.osv.dev", 443), 5)' 2>/dev/null; then
    echo "api.osv.dev is unreachable: nothing was audited; run this on a machine that can reach it" >&2
    exit 3
fi
exec "$tools/bin/pip-audit" --vulnerability-service osv --disable-pip --no-deps --requirement constraints.txt "$@"
