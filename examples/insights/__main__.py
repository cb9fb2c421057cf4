"""`python -m examples.insights`, from the repository's root: the demo."""

import sys
from pathlib import Path

# The app's modules import each other by plain names, as they do under `karafka server` in this folder.
sys.path.insert(0, str(Path(__file__).parent))

from demo import main

main()
