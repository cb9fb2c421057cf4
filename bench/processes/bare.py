"""The same work without Kafka: `bare COUNT`, the answer in JSON: what the machine allows."""

from __future__ import annotations

import json
import os
import sys
import time

os.environ |= {"BENCH_LEDGER": os.devnull, "BENCH_GROUP": "-", "BENCH_BOOTSTRAP": "-", "BENCH_TOPIC": "-"}
from bench.processes.app import burn

began = time.monotonic()
for _ in range(int(sys.argv[1])):
    burn()
print(json.dumps({"wall": time.monotonic() - began}))
