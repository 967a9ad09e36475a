# One image for a GPU, a CPU (--build-arg DEVICE=cpu), MHub's workflows and the command line; with --build-arg BATCH=1
# it can do `fmcib batch` too. See docs/container.md.
#
# The digest is the one for amd64 and arm64 that public build records name for this tag. torch's wheels bring the
# CUDA libraries that match them, so the smallest CUDA image will do. Another base: --build-arg BASE_IMAGE=..., with
# Python 3.11 or 3.12 among its packages (Debian 12, Ubuntu 24.04).
ARG BASE_IMAGE=nvidia/cuda:13.0.1-base-ubuntu24.04@sha256:f8ef28f579ea42a44b415d2c5d46f788e6a9b395c6c83f2929416e1fc192c143

FROM ${BASE_IMAGE} AS python
# hadolint ignore=DL3008  # the base decides the versions; it is pinned
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*

FROM python AS packages
ARG BATCH=0
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY requirements/runtime.lock requirements/batch.lock requirements/image.sh requirements/
RUN requirements/image.sh packages "${BATCH}"
COPY pyproject.toml README.md LICENSE ./
COPY fmcib_module fmcib_module
RUN requirements/image.sh module

FROM python
ARG DEVICE=gpu
ARG BATCH=0
COPY requirements/runtime.lock requirements/image.sh /tmp/requirements/
RUN /tmp/requirements/image.sh torch "${DEVICE}"
COPY --from=packages /opt/fmcib /opt/fmcib
COPY mhub/mhub.run /usr/local/bin/mhub.run
COPY mhub /app/models/fmcib
COPY config/*.yml /app/models/fmcib/config/

ENV PATH=/opt/fmcib/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    FMCIB_CACHE=/app/cache \
    HOME=/tmp \
    LOGNAME=fmcib \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /app

# fmcib: the published weights (CC BY-NC 4.0), fetched and verified. mini: packaged, no network, for trying the
# chain. none: to be mounted on /app/cache. WEIGHTS_URL names a mirror; the SHA-256 stays the registry's.
ARG WEIGHTS=fmcib
ARG WEIGHTS_URL=
RUN /tmp/requirements/image.sh weights "${DEVICE}" "${WEIGHTS}" "${WEIGHTS_URL}" \
    && rm -rf /tmp/requirements \
    && mkdir -p cache/hashes cache/engines data/input_data data/output_data \
    && chmod 1777 cache cache/hashes cache/engines data data/input_data data/output_data

ARG BASE_IMAGE
ARG REVISION=
LABEL org.opencontainers.image.title="fmcib" \
      org.opencontainers.image.description="DICOM CT with marked lesions in; foundation-model features per lesion out. Research use only." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      fmcib.device="${DEVICE}" \
      fmcib.batch="${BATCH}" \
      fmcib.weights="${WEIGHTS}"

USER 10001:10001
ENTRYPOINT ["mhub.run"]
CMD ["--workflow", "default"]
