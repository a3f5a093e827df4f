# The service, its jobs, and every command that needs no torch: encoders run as exported graphs.
#   docker build --tag similarity .
#   docker build --tag similarity-all --build-arg EXTRAS=all .                  (training and localization by torch)
#   docker build --tag similarity-cuda --build-arg EXTRAS=all --build-arg TORCH= .                       (with CUDA)
FROM python:3.11.11-slim-bookworm AS build
ARG EXTRAS=postgres
ARG TORCH=cpu
RUN pip install --no-cache-dir uv==0.9.11 && python -m venv /opt/similarity
WORKDIR /source
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN for extra in $EXTRAS; do set -- "$@" --extra "$extra"; done \
 && uv pip install --no-cache --python /opt/similarity/bin/python ${TORCH:+--torch-backend $TORCH} \
      -r pyproject.toml "$@" --constraint requirements.lock
COPY corpus corpus
COPY trainer trainer
COPY indexer indexer
COPY migrations migrations
COPY retrieval retrieval
COPY similarity similarity
RUN uv pip install --no-cache --no-deps --python /opt/similarity/bin/python .

FROM python:3.11.11-slim-bookworm
RUN useradd --uid 10001 --create-home similarity \
 && install --directory --owner similarity --group similarity --mode 0700 /home/similarity/.similarity
COPY --from=build /opt/similarity /opt/similarity
ENV PATH=/opt/similarity/bin:$PATH PYTHONUNBUFFERED=1 SIMILARITY_HOME=/home/similarity/.similarity
USER similarity
VOLUME /home/similarity/.similarity
EXPOSE 8642
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=6 \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8642/healthz', timeout=2)"]
# Inside a container every address is the container's own; what is published is decided outside.
CMD ["similarity", "serve", "--host", "0.0.0.0", "--port", "8642"]
