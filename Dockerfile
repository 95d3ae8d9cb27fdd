# An image with one half of the project, for a CPU, a GPU or an NPU: docs/installation.md, "Container", has the commands.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

# The file in requirements/: torch-cpu or torch for the ImageNet half, cpu or gpu for the CIFAR-10 half.
ARG REQUIREMENTS=torch-cpu
# What a device needs besides, without hashes: "torch_npu==2.13.0 pyyaml==6.0.4" on an image with CANN.
ARG EXTRA=""

COPY requirements /opt/se-pnas-kit/requirements
# hadolint ignore=SC2086
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/python -m pip install --no-cache-dir -r "/opt/se-pnas-kit/requirements/${REQUIREMENTS}.txt" \
    && { [ -z "${EXTRA}" ] || /opt/venv/bin/python -m pip install --no-cache-dir ${EXTRA}; } \
    && install -d -o 10001 -g 10001 /work /data
COPY . /opt/se-pnas-kit

# Any user may run it (--user): nobody has a home, and the name of a number without an account is asked for by torch.
ENV PATH=/opt/venv/bin:$PATH PYTHON=/opt/venv/bin/python HOME=/tmp LOGNAME=kit PYTHONUNBUFFERED=1
USER 10001:10001
# Runs are written below the working directory.
WORKDIR /work
VOLUME ["/data", "/work"]
ENTRYPOINT ["python"]
CMD ["/opt/se-pnas-kit/torch_imagenet/main.py", "--help"]
