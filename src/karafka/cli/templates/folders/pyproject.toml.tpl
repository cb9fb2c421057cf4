[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "example_app"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["karafka"]

[project.optional-dependencies]
dev = ["karafka[broker,reload]", "mypy", "pytest", "ruff"]

[tool.setuptools]
packages = [] # what the app needs is installed; the app itself runs in this folder

[tool.ruff]
line-length = 120

[tool.ruff.lint]
select = ["A", "B", "C4", "E", "F", "I", "N", "PT", "RET", "RUF", "SIM", "UP", "W"]

[tool.mypy]
strict = true

[tool.pytest.ini_options]
pythonpath = ["."]
testpaths = ["tests"]
