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
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheel .

FROM python:3.13-slim
COPY requirements.lock /
RUN pip install --no-cache-dir --require-hashes -r /requirements.lock
COPY --from=wheel /wheel /wheel
RUN pip install --no-cache-dir --no-deps /wheel/*.whl && useradd --create-home meterwatch
USER meterwatch
WORKDIR /home/meterwatch
ENTRYPOINT ["meterwatch"]
CMD ["worker"]
