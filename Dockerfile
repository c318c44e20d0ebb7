# Pipit with the demo project. Linux, x86_64 and arm64; about 1 GB, nearly all of it the ClickHouse engine.
FROM python:3.11-slim-bookworm

WORKDIR /pipit
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY platform platform
RUN pip install --no-cache-dir -c constraints.txt .

COPY datasources /project/datasources
COPY pipes /project/pipes
COPY connectors /project/connectors

RUN useradd --create-home pipit && install -d -m 0700 -o pipit -g pipit /data
USER pipit
# For commands beside the server: docker compose exec pipit pipit query top_features
ENV PIPIT_DATA=/data
WORKDIR /home/pipit
VOLUME /data
EXPOSE 7181
ENTRYPOINT ["pipit"]
CMD ["serve", "--project", "/project", "--data", "/data", "--host", "0.0.0.0"]
