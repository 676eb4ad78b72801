# The embedded editor and the embedded thinker: no weights, no GPU. One build, two targets that share all their layers:
#   docker build -f services/embedded.Dockerfile --target editor .
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python3 -m venv /opt/venv
# As in orchestrator/Dockerfile: what we depend on, then our code.
COPY pyproject.toml constraints.txt ./
RUN touch README.md LICENSE \
 && install -D /dev/null editthinker/__init__.py \
 && install -D /dev/null orchestrator/__init__.py \
 && install -D /dev/null services/__init__.py \
 && /opt/venv/bin/pip install --constraint constraints.txt '.[editor,thinker,otel]'
COPY README.md LICENSE ./
COPY editthinker ./editthinker
COPY orchestrator ./orchestrator
COPY services ./services
RUN /opt/venv/bin/pip install --no-deps --force-reinstall . \
 && /opt/venv/bin/pip uninstall --yes pip setuptools

FROM ${BASE} AS run
COPY --from=build /opt/venv /opt/venv
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent editthinker
USER 10001:10001
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
STOPSIGNAL SIGTERM

FROM run AS editor
ENV EDITTHINKER_EDITOR_HOST=0.0.0.0 \
    EDITTHINKER_EDITOR_PORT=8100 \
    EDITTHINKER_EDITOR_PIPELINE=classical
EXPOSE 8100
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8100/readyz', timeout=4)"]
ENTRYPOINT ["python", "-m", "services.editor"]

FROM run AS thinker
ENV EDITTHINKER_THINKER_HOST=0.0.0.0 \
    EDITTHINKER_THINKER_PORT=8200 \
    EDITTHINKER_THINKER_PROFILE=rules
EXPOSE 8200
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8200/readyz', timeout=4)"]
ENTRYPOINT ["python", "-m", "services.thinker"]
