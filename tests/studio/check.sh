#!/bin/sh
# ESLint and TypeScript over orchestrator/studio, in a copy whose Lit has types. Needs Node and npm; make check-studio runs it.
set -eu
cd "$(dirname "$0")"
npm ci --silent
rm -rf .checked
cp -r ../../orchestrator/studio .checked
rm .checked/lit/lit.js
cp types/lit.d.ts .checked/lit/
npx --no-install eslint --no-ignore .checked
npx --no-install tsc
