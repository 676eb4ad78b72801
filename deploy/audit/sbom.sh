#!/bin/sh
# A CycloneDX document of what the orchestrator's image installs: deploy/audit/sbom.sh [extra] [file]
# The packages are those of constraints.txt, installed into a temporary environment; the tools have another. FILE.lock.txt has the
# hashes of the files installed on this platform: pip install --require-hashes --no-deps -r FILE.lock.txt
set -eu
extra=${1:-orchestrator}
file=${2:-out/sbom.json}
python=${PYTHON:-python3}
tools=${AUDIT_VENV:-.venv-audit}
mkdir -p "$(dirname "$file")"
test -x "$tools/bin/cyclonedx-py" || {
    "$python" -m venv "$tools"
    "$tools/bin/pip" install --quiet 'cyclonedx-bom==7.5.0' 'pip-audit==2.10.1'
}
plain=$(mktemp -d)
trap 'rm -rf "$plain"' EXIT
"$python" -m venv --without-pip "$plain/env"
"$tools/bin/pip" --python "$plain/env" install --quiet --no-cache-dir --report "$plain/report.json" \
    --constraint constraints.txt ".[$extra]"
"$tools/bin/cyclonedx-py" environment "$plain/env" --pyproject pyproject.toml --output-reproducible --of JSON -o "$file"
"$python" - "$file" "$plain/report.json" <<'END'
import json
import sys

parts = json.load(open(sys.argv[1]))["components"]
files = [row for row in json.load(open(sys.argv[2]))["install"] if not row.get("is_direct")]
rows = sorted(
    f"{row['metadata']['name']}=={row['metadata']['version']} --hash=sha256:{row['download_info']['archive_info']['hashes']['sha256']}"
    for row in files
)
with open(f"{sys.argv[1]}.lock.txt", "w") as lock:
    lock.write("\n".join(rows) + "\n")
print(f"{sys.argv[1]}: {len(parts)} packages, CycloneDX; {sys.argv[1]}.lock.txt: {len(rows)} with hashes")
END
