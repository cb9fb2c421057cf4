"""What differs from one environment to the next. KARAFKA_ENV says which one it is; where it says nothing, development.

A KARAFKA_… variable wins over what stands here: `.env.example` has some, `karafka info` shows what was read.
"""

from karafka import Environment

env = Environment.from_env()

# librdkafka's settings, by their own names.
kafka: dict[str, str] = {}
if env.development or env.test:
    kafka["bootstrap.servers"] = "localhost:9092"  # elsewhere KARAFKA_BROKERS has to say it

concurrency = 20 if env.production else 5
