"""What a forked child of the tests runs: the command line, in an environment of its own, its output in a file.

Forked from a server that has imported everything, so that a run starts in milliseconds. `ENVIRONMENT`, `ARGUMENTS` and
`LOG` are put into this script's globals by `conftest.py`.
"""

import os
import sys

from burnish.platform.cli import main

given = globals()
os.environ.update(given["ENVIRONMENT"])
log = os.open(given["LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.dup2(log, 1)
os.dup2(log, 2)
try:
    main(given["ARGUMENTS"])
finally:
    print("imported ray:", "ray" in sys.modules, flush=True)
