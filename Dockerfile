# One image for node, operator and client.
#
#   docker build -t coterie:dev .      or scripts/image, which also knows buildah, labels and pip's settings
#
# PYTHON_IMAGE is any Debian with a python (3.11 or newer) that can make virtual environments. Two optional build
# secrets serve those who reach the package index in a way of their own, and are in no layer: `pip`, a pip.conf, and
# `ca`, the authorities that its `cert = /run/secrets/ca` may name.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
# The virtual environment lies where it will be used: its scripts name its path. It needs no pip of its own.
RUN python -m venv --without-pip /opt/coterie && mkdir /empty
WORKDIR /src
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
# Dependencies first, those of the extra `operator` too: they change more rarely than the sources, and are most of the
# work.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca \
    python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
print("\n".join(project["dependencies"] + project["optional-dependencies"]["operator"]))' > /tmp/dependencies.txt && \
    python -m pip --python /opt/coterie/bin/python install --no-compile -r /tmp/dependencies.txt 'dumb-init>=1.2.5'
COPY protocol protocol
COPY node node
COPY client client
COPY operator operator
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca \
    python -m pip wheel --no-deps --wheel-dir /tmp/wheel . && \
    python -m pip --python /opt/coterie/bin/python install --no-compile --no-deps --no-index /tmp/wheel/*.whl
# What no program of ours imports. The Kubernetes client's models are half of it all: the operator sends plain objects.
COPY scripts/slim-venv.py /tmp/
RUN python /tmp/slim-venv.py /opt/coterie

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/coterie /opt/coterie
# Where a node's data goes; in a pod its claim is mounted there. All else that is written goes to /tmp.
COPY --from=build --chown=65532:65532 /empty /data
ENV PATH=/opt/coterie/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LOGNAME=coterie \
    HOME=/tmp \
    COTERIE_HOME=/tmp/coterie
USER 65532:65532
WORKDIR /tmp
EXPOSE 7400 7401 7402 8080
# dumb-init passes signals on and reaps what is left behind, as PID 1 must.
ENTRYPOINT ["dumb-init", "--"]
CMD ["coterie", "--help"]
# Last, so that another commit changes no layer.
ARG VERSION=dev
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="Coterie" \
      org.opencontainers.image.description="Self-hosted chat on a ring of equal nodes: node, operator and client" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
