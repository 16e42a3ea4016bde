# The build stage has what is needed to install; the image that runs has only the result.
FROM python:3.12-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/codelab
# `--build-arg CODELAB_EXTRA=mcp` makes an image that has this extra.
ARG CODELAB_EXTRA=
COPY requirements.lock requirements-mcp.lock ./
RUN /opt/codelab/bin/pip install --require-hashes -r requirements${CODELAB_EXTRA:+-$CODELAB_EXTRA}.lock
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN /opt/codelab/bin/pip install --no-deps --no-build-isolation .

FROM python:3.12-slim
ENV PATH=/opt/codelab/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --system --uid 10001 --user-group --home-dir /data --no-create-home --shell /usr/sbin/nologin codelab \
    && install --directory --owner=codelab --group=codelab --mode=0700 /data
COPY --from=build /opt/codelab /opt/codelab
# All that the server writes is below /data; the rest of the file system may be read-only.
ENV AGENT_RUNTIME__DB_URL=sqlite:////data/agent_runtime.db \
    AUTH_SERVICE__DB_URL=sqlite:////data/auth.db \
    AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE=/data/auth.key
USER codelab
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
# The slim image has no curl. A 503 raises, and so does silence.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/ready', timeout=4)"]
CMD ["codelab", "serve", "--host", "0.0.0.0", "--port", "8000"]
