"""Step 6: the ledger -> the exit code."""

from mhubio.core import Module

from fmcib_module.cli_display import show_ledger
from fmcib_module.core.errors import OutputError
from fmcib_module.core.ledger import ExitCode
from fmcib_module.ledger_file import read_ledger

from .handover import LEDGER, find_data
from .workflow import exit_on_error


class StatusGate(Module):
    """End the process with 3 if a series or ROI failed, 4 if no lesion came through, 2 if nothing was written.

    mhubio goes on after any exception in a step and would exit with 0.
    """

    def task(self) -> None:
        """Read the ledger that ReportWriter has just written."""
        with exit_on_error():
            path = find_data(self.config.data.globalInstance, LEDGER)
            ledger = read_ledger(path.parent) if path else None
            if path is None or ledger is None:
                raise OutputError("there is no ledger", "StatusGate", "put ReportWriter before it under `execute:`")
        self.log(f"lesions: {ledger.counts()}")
        if ledger.exit_code is not ExitCode.OK:
            show_ledger(ledger, path.parent, json_log=False)
            raise SystemExit(int(ledger.exit_code))
