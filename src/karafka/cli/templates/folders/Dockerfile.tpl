FROM python:3.13-slim
WORKDIR /app
COPY pyproject.toml ./
RUN pip install --no-cache-dir .
COPY . .
USER nobody
ENV KARAFKA_ENV=production
# What runs may take up to shutdown_timeout (60 s) when it is stopped: docker stop --time 70.
CMD ["karafka", "server"]
