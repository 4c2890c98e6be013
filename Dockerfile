# linkly with the drivers of PostgreSQL and MySQL. It takes its project from /etc/linkly/config.yaml, is not root and writes
# nothing into the image: what has to stay lies in a database or in a volume that the config names.

FROM python:3.13-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY sdk sdk
COPY workers workers
COPY engine engine
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
 && python -m venv --without-pip /opt/linkly \
 && python -m pip --python /opt/linkly/bin/python install --no-cache-dir "$(echo /wheels/*.whl)[postgres,mysql]"

FROM python:3.13-slim-bookworm
COPY --from=build /opt/linkly /opt/linkly
ENV PATH=/opt/linkly/bin:$PATH HOME=/tmp
WORKDIR /etc/linkly
USER 10001:10001
CMD ["linkly", "-c", "/etc/linkly/config.yaml"]
