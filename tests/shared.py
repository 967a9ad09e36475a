"""Where the shared reference data lies; tests that need it skip with a reason where it is absent."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
DATA = SHARED / "data"
GOLDEN = SHARED / "golden"

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="reference data (../shared) is not on this machine")
