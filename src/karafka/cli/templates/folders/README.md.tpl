# example_app
Whoever follows a channel is notified of its new videos. With Python 3.11 or newer, and no Kafka:
```sh
pip install -e '.[dev]'
pytest
karafka server --embedded --reload
```
The last one says an address, and starts anew whenever a file is saved. In a second terminal, with that address:
```sh
export KARAFKA_BROKERS=127.0.0.1:PORT
karafka console <<END
from datetime import UTC, datetime
from models import Video
send("videos_created", Video("Kafka in Python", "karafka", datetime.now(UTC)))
END
```
In the first one then stands:
```text
ada: Kafka in Python is new in karafka
grace: Kafka in Python is new in karafka
```

## Where things are
| | |
|---|---|
| `app.py` | the app; `karafka info` tells all about it |
| `config/routes.py` | which topics go to which controllers: `karafka routes`, `karafka flow` |
| `config/settings.py` | what differs from one environment to the next; `.env.example`: from one machine to the next |
| `models.py` | what comes in and goes out, as types |
| `controllers/` | what is done with what comes in |
| `responders/` | what goes out; each is found by its controller's name |
| `workers/` | how jobs in the background are performed; each is found by its controller's name |
| `parsers/` | bytes to objects and back, where they are not JSON |
| `tests/` | parts alone, and the whole app on a broker of its own |

## With a real Kafka
```sh
karafka broker                # Apache Kafka on localhost:9092, for development
karafka topics --create       # what the app reads, where it is not there
karafka server                # and, in another terminal:
karafka worker                # what is done in the background; --embedded does it itself
```
Elsewhere `KARAFKA_ENV` says where the app runs, and `KARAFKA_BROKERS` its brokers; the `Dockerfile` makes an image of it.
