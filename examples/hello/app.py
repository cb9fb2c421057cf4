import os

from karafka import App, Controller

app = App("hello", kafka={"bootstrap.servers": os.environ.get("KAFKA_BOOTSTRAP", "localhost:9092")})


@app.topic("greetings")
class GreetingsController(Controller[dict[str, str]]):
    def perform(self) -> None:
        print(f"hello, {self.params['name']}")
