#!/usr/bin/env bash
# The environment of `make test-lmms`: lmms-eval with all that it needs, and this project without its own dependencies but the client's.
set -euo pipefail
folder=${1:?the folder to install into}
here=$(cd "$(dirname "$0")" && pwd)
if ! cmp --silent "$here/requirements.txt" "$folder/installed"; then
  rm -rf "${folder:?}"
  "${PYTHON:-python3}" -m venv "$folder"
  "$folder/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
  cp "$here/requirements.txt" "$folder/installed"
fi
"$folder/bin/pip" install --quiet --disable-pip-version-check --editable "$here/../.."
