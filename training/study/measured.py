"""Run a command and write what it took: `python measured.py REPORT COMMAND ...`, by path and with the standard library.

A process counts the memory of the one that started it as its own peak (Linux keeps it over exec), so what measures must
be small: this is started between.
"""

import json
import os
import sys
import time
from pathlib import Path


def main(report: str, *command: str) -> int:
    """Run the command, write minutes, cpu_minutes and peak_mib as JSON, and exit as it did."""
    start = time.monotonic()
    _, status, usage = os.wait4(os.posix_spawn(command[0], command, os.environ), 0)
    minutes = (time.monotonic() - start) / 60
    per_mib = 2**20 if sys.platform == "darwin" else 2**10
    took = {
        "minutes": minutes,
        "cpu_minutes": (usage.ru_utime + usage.ru_stime) / 60,
        "peak_mib": usage.ru_maxrss / per_mib,
    }
    Path(report).write_text(json.dumps(took), encoding="utf-8")
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
