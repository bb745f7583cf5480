FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements.lock requirements-dev.lock ./
# Wheels only: there is no compiler here, and nothing that could want one.
RUN python -m venv --without-pip /srv/fermata \
    && pip --python /srv/fermata install --only-binary :all: --require-hashes --requirement requirements.lock
# What builds our own wheel is taken from the development lock, hashes and all, and stays behind.
RUN awk '/^[^ ]/ { wanted = /^setuptools==/ } wanted' requirements-dev.lock > build.lock \
    && pip install --only-binary :all: --require-hashes --requirement build.lock
COPY . .
RUN pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /wheels . \
    && pip --python /srv/fermata install --no-deps --no-index /wheels/*.whl

FROM python:3.13-slim
RUN groupadd --gid 10001 fermata \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/fermata --shell /usr/sbin/nologin fermata \
    && install --directory --owner 10001 --group 10001 --mode 0700 /var/lib/fermata
COPY --from=build /srv/fermata /srv/fermata
ENV PATH=/srv/fermata/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    FERMATA_DATA_DIR=/var/lib/fermata
WORKDIR /var/lib/fermata
USER 10001:10001
EXPOSE 8000 8002
CMD ["fermata", "--help"]
