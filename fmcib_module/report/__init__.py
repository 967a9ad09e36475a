"""OUTPUT -> report.html: one page that shows a run, with nothing to install and nothing to load from elsewhere."""

from fmcib_module.report.writer import write_report

__all__ = ["write_report"]
