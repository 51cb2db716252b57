# The harness, for clusters that exist and, on the nodes' network, for nodes that the host does not
# reach: docker run --network kind …; see README.md.
ARG BASE=docker.io/library/python:3.14-slim
FROM ${BASE} AS build
WORKDIR /src
RUN python3 -m venv /opt/nodeport-e2e
COPY requirements.lock .
RUN /opt/nodeport-e2e/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements.lock
COPY . .
RUN /opt/nodeport-e2e/bin/pip install --no-cache-dir --no-deps . && rm -rf build

FROM ${BASE}
COPY --from=build /opt/nodeport-e2e /opt/nodeport-e2e
# Results go into the folder that is mounted at /work; whoever has it may be the user.
ENV PATH=/opt/nodeport-e2e/bin:$PATH E2E_CACHE=/tmp/nodeport-e2e E2E_INSTALL_ENGINE=0 HOME=/tmp
WORKDIR /work
ENTRYPOINT ["nodeport-e2e"]
