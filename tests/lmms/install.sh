#!/usr/bin/env bash
# The environment of `make test-lmms`: lmms-eval with all that it needs, and this project. install.sh FOLDER. Needs an index with
# torch's CPU build, and 2.5 GB. Does nothing if the folder holds what this script and requirements.txt would make.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:?the folder to install into}
python=${PYTHON:-python3}
stamp=$(cat "$here/install.sh" "$here/requirements.txt" <("$python" --version) <(cd "$here" && pwd) | sha256sum | cut -d' ' -f1)
if [ "$(cat "$folder/.stamp" 2>/dev/null || true)" = "$stamp" ]; then exit 0; fi

rm -rf "${folder:?}"
"$python" -m venv "$folder"
# The list is complete. With their dependencies, torchvision and others could pull in the CUDA builds of torch.
"$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$here/requirements.txt"
# Of this project, its client is all that lmms-eval's process imports.
"$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps --editable "$here/../.."
# As in tests/vllm/install.sh: torchvision's compiled operators do not load with torch for the CPU, and are not needed.
packages=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
sed -i -E 's/^@torch\.library\.register_fake\("torchvision::(\w+)"\)/@register_meta("\1")/' \
  "$packages/torchvision/_meta_registrations.py"
echo "$stamp" > "$folder/.stamp"
