#!/usr/bin/env bash
# Prepares `make test-containers` on a machine without a container engine and image registry, in FOLDER; once, then kept.
#   prepare.sh FOLDER
# Installs podman with runc from Debian (as root), makes a base image with debootstrap under the name that the Dockerfiles
# use, replacements for the images that the compose file names (standins.Dockerfile), and podman-compose in its own
# environment. Outside FOLDER only Debian packages are changed; `rm -r FOLDER` removes the rest.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd)
# For git, and for linters that respect its ignore files.
echo '*' > "$folder/.gitignore"
python_image=docker.io/library/python:3.11-slim-bookworm

packages=(podman buildah runc netavark aardvark-dns iptables debootstrap)
if ! dpkg-query --show --showformat='${db:Status-Status}\n' "${packages[@]}" 2>/dev/null | grep -c '^installed$' | grep -qx "${#packages[@]}"; then
    [ "$(id -u)" = 0 ] || { echo "run as root, or install: ${packages[*]}" >&2; exit 1; }
    apt-get update --quiet=2
    DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends "${packages[@]}"
fi

# A virtual machine without CAP_SYS_RESOURCE may not raise limits, and crun, unlike runc, refuses hybrid cgroups.
cat > "$folder/containers.conf" <<END
[containers]
default_ulimits = ["nofile=10000:10000", "nproc=4096:4096"]
[network]
network_backend = "netavark"
[engine]
runtime = "runc"
END
# Our own storage, separate from that of other users of podman on this machine.
cat > "$folder/storage.conf" <<END
[storage]
driver = "overlay"
graphroot = "$folder/storage"
runroot = "$folder/run"
END
export CONTAINERS_CONF="$folder/containers.conf" CONTAINERS_STORAGE_CONF="$folder/storage.conf" BUILDAH_FORMAT=docker

if ! podman image exists "$python_image"; then
    rm -rf "$folder/base"
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$folder/base" > "$folder/debootstrap.log"
    rm -rf "$folder"/base/var/cache/apt/* "$folder"/base/var/lib/apt/lists/*
    tar -C "$folder/base" -c . | podman import --quiet - "$python_image"
    rm -rf "$folder/base"
fi

# The hash covers this script too, because it has the names.
recipe=$(cat "$here/standins.Dockerfile" "$here/prepare.sh" | sha256sum | cut -c1-16)
if [ "$(cat "$folder/standins" 2>/dev/null)" != "$recipe" ]; then
    for name in valkey=docker.io/valkey/valkey:8.1 haproxy=docker.io/library/haproxy:2.8 prometheus=docker.io/prom/prometheus:v3.5.0; do
        podman build --quiet --layers --target "${name%%=*}" --tag "${name#*=}" - < "$here/standins.Dockerfile"
    done
    echo "$recipe" > "$folder/standins"
fi

# Only these tests need it, so it has its own environment.
if [ ! -x "$folder/venv/bin/podman-compose" ]; then
    python3 -m venv "$folder/venv"
    "$folder/venv/bin/pip" install --quiet podman-compose==1.6.0
fi
