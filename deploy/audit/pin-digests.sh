#!/bin/sh
# Pins the images that others publish to the digests that their registries name for the tags today: in the Dockerfiles,
# docker-compose.yml and deploy/kubernetes. Run it where a registry can be reached, test, and commit the result.
#   deploy/audit/pin-digests.sh           pin, also over an earlier digest
#   deploy/audit/pin-digests.sh --check   exit 1 if an image is not pinned; asks no registry
set -eu
cd "$(dirname "$0")/../.."
files="docker-compose.yml orchestrator/Dockerfile services/*/Dockerfile deploy/kubernetes/*/*.yaml deploy/kubernetes/*/*/*.yaml"
# "ARG BASE=name:tag" and "image: name:tag", of others: ours are editthinker/….
found=$(sed -nE 's/^ARG BASE=([^ ]+)$/\1/p; s/^ *(- )?image: ([^ ]+)$/\2/p' $files | grep -v '^editthinker/' | sort -u)

if [ "${1:-}" = --check ]; then
    missing=$(echo "$found" | grep -v '@sha256:' || true)
    test -z "$missing" || { echo "not pinned to a digest:" $missing >&2; exit 1; }
    exit 0
fi

for image in $found; do
    name=${image%@*}
    if command -v docker > /dev/null; then
        digest=$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$name")
    else
        digest=$(skopeo inspect --format '{{.Digest}}' "docker://docker.io/$name")
    fi
    case $digest in
        sha256:????????????????????????????????????????????????????????????????) ;;
        *) echo "$name: the registry named no digest ($digest)" >&2; exit 1 ;;
    esac
    for file in $files; do
        sed -E -i.before "s#^(ARG BASE=| *(- )?image: )$name(@sha256:[0-9a-f]{64})?\$#\\1$name@$digest#" "$file"
        rm "$file.before"
    done
    echo "$name@$digest"
done
