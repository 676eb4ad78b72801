# Debian's Redis, HAProxy and Prometheus under the users and paths of the images that docker-compose.yml names, for machines
# without access to an image registry. The versions differ: Debian 12 has Redis 7.0, HAProxy 2.6 and Prometheus 2.42.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS packages
# No daemon may start while it is installed.
RUN printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d \
 && apt-get update \
 && apt-get install --yes --no-install-recommends redis-server redis-tools haproxy prometheus wget \
 && rm -rf /var/lib/apt/lists/*

FROM packages AS valkey
RUN ln -s redis-server /usr/bin/valkey-server && ln -s redis-cli /usr/bin/valkey-cli \
 && groupadd --non-unique --gid 999 valkey && useradd --non-unique --uid 999 --gid 999 --no-create-home valkey \
 && install --directory --owner=999 --group=999 /data
WORKDIR /data
VOLUME /data
EXPOSE 6379
CMD ["valkey-server"]

FROM packages AS haproxy
USER haproxy
STOPSIGNAL SIGUSR1
CMD ["haproxy", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]

FROM packages AS prometheus
RUN install --directory --owner=nobody --group=nogroup /prometheus
USER nobody
WORKDIR /prometheus
VOLUME /prometheus
EXPOSE 9090
ENTRYPOINT ["prometheus"]
