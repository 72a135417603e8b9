# The service, or any other command of aftermap:
#   docker build -t aftermap .
#   docker run -p 127.0.0.1:8765:8765 -v aftermap-data:/data aftermap
#   docker run -v "$PWD:/data" aftermap map before.tif after.tif -o out
#   docker run -v "$PWD:/data" aftermap pre.png post.png localization.png damage.png
FROM python:3.12-slim AS build
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE CHANGELOG.md ./
COPY src src
COPY recipes recipes
RUN python -m venv /opt/aftermap
RUN /opt/aftermap/bin/pip install --no-cache-dir --constraint constraints.txt '.[serve,team,learn,areas,catalog]'

FROM python:3.12-slim
COPY --from=build /opt/aftermap /opt/aftermap
COPY docker/entry.sh /usr/local/bin/aftermap-entry
RUN useradd --uid 10001 --create-home --home-dir /data --shell /usr/sbin/nologin aftermap
ENV PATH=/opt/aftermap/bin:$PATH PYTHONUNBUFFERED=1 AFTERMAP_CACHE=/tmp/aftermap
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8765
HEALTHCHECK CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8765/health', timeout=3)"]
ENTRYPOINT ["/bin/sh", "/usr/local/bin/aftermap-entry"]
CMD ["serve", "/data", "--host", "0.0.0.0", "--port", "8765"]
