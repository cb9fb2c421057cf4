# What differs from machine to machine. Copy it to .env, which git ignores, and have your shell read it:
#   set -a; . ./.env; set +a
# Any setting of the app can be told so, any of librdkafka's too (KARAFKA_KAFKA_SASL_PASSWORD is sasl.password).
KARAFKA_ENV=development
KARAFKA_BROKERS=localhost:9092
# KARAFKA_CONCURRENCY=5
# KARAFKA_LOG_LEVEL=info
