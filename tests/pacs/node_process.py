"""A node in a process of its own, for tests that kill it: `python -m tests.pacs.node_process SETTINGS.yml`."""

import sys
from pathlib import Path

from fmcib_module.pacs.node_settings import read_node_settings
from fmcib_module.pacs.service import serve
from tests.pacs.node_helpers import quick_work

if __name__ == "__main__":
    serve(read_node_settings(Path(sys.argv[1])), sys.stderr, quick_work)
