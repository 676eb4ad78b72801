#!/bin/sh
# Makes the passwords that docker-compose.yml reads, in .secrets: those that are there already are kept. A new password of Redis
# needs `docker compose up --force-recreate`.
set -eu
cd "$(dirname "$0")/../.."
umask 077
mkdir -p .secrets
chmod 700 .secrets
for name in editthinker_redis_password grafana_password; do
    test -s ".secrets/$name" || od -An -N24 -tx1 /dev/urandom | tr -d ' \n' > ".secrets/$name"
    # Mounted into containers of other users; the folder keeps the machine's other users out.
    chmod 444 ".secrets/$name"
done
