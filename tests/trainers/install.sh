#!/usr/bin/env bash
# The trainers of `make test-trainers`, an environment each: install.sh FOLDER. Needs an index with torch's CPU build, and 5 GB.
set -euo pipefail
folder=${1:?the folder to install into}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
for list in "$here"/requirements/*.txt; do
  name=$(basename "$list" .txt)
  stamp=$(cat "$here/install.sh" "$list" | sha256sum | cut -d' ' -f1)
  [ "$(cat "$folder/$name/installed" 2>/dev/null || true)" = "$stamp" ] && continue
  rm -rf "${folder:?}/$name"
  "${PYTHON:-python3}" -m venv "$folder/$name"
  install() { "$folder/$name/bin/pip" install --quiet --disable-pip-version-check "$@"; }
  install torch==2.13.0
  install --requirement "$list"
  # Without their dependencies, which are builds for GPUs.
  install --no-deps torchvision==0.28.0 qwen-vl-utils==0.0.14 av==18.0.0
  [ "$name" = verl ] && install --no-deps verl==0.9.1
  # As in tests/vllm/install.sh: torchvision's compiled operators do not load with torch for the CPU, and are not needed.
  packages=$("$folder/$name/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
  sed -i -E 's/^@torch\.library\.register_fake\("torchvision::(\w+)"\)/@register_meta("\1")/' \
    "$packages/torchvision/_meta_registrations.py"
  echo "$stamp" > "$folder/$name/installed"
done
