FROM python:3.13-slim
WORKDIR /app
COPY pyproject.toml ./
RUN pip install --no-cache-dir .
COPY . .
USER nobody
ENV KARAFKA_ENV=production PYTHONUNBUFFERED=1 PYTHONFAULTHANDLER=1
HEALTHCHECK --start-period=60s CMD find /tmp/alive -mmin -1 | grep -q .
# What runs may take up to shutdown_timeout (60 s) when it is stopped, and its farewell 30 s: docker run --stop-timeout 90.
CMD ["karafka", "server", "--alive-file", "/tmp/alive"]
