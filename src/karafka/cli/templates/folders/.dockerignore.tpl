.env
.git/
.karafka/
.venv/
**/__pycache__/
*.egg-info/
.*_cache/
