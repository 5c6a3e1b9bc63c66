FROM python:3.13-slim AS wheel
WORKDIR /source
COPY requirements-dev.lock ./
RUN pip install --no-cache-dir --require-hashes -r requirements-dev.lock
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY models models
COPY detectors detectors
COPY replay replay
COPY streams streams
# `--build-arg VERSION=0.2.0`, of the tag, for there is no git here to ask.
ARG VERSION
RUN SETUPTOOLS_SCM_PRETEND_VERSION=$VERSION pip wheel --no-deps --no-build-isolation --wheel-dir /wheel .

FROM python:3.13-slim
COPY requirements.lock /
RUN pip install --no-cache-dir --require-hashes -r /requirements.lock
COPY --from=wheel /wheel /wheel
RUN pip install --no-cache-dir --no-deps /wheel/*.whl && useradd --uid 10001 --create-home meterwatch
USER 10001
WORKDIR /home/meterwatch
LABEL org.opencontainers.image.title=meterwatch \
      org.opencontainers.image.description="A streaming watch over an electricity utility's meters, payments and work flow" \
      org.opencontainers.image.licenses=Apache-2.0
# Of the worker; a container of another command needs `--no-healthcheck`.
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=6 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9464/readyz', timeout=5)"]
ENTRYPOINT ["meterwatch"]
CMD ["worker"]
