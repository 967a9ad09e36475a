"""`fmcib run dicomweb+https://...`: the study is fetched first, and results are sent back with --store."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fmcib_module.cli_display import Display
from fmcib_module.core.errors import ConfigError, PeerError
from fmcib_module.core.ledger import ExitCode
from fmcib_module.ledger_file import read_ledger


@contextmanager
def input_folder(source: str, *, json_log: bool) -> Iterator[Path]:
    """INPUT as a folder: the folder itself, or a study fetched from a DICOMweb server as long as the block lasts."""
    if not is_dicomweb(source):
        yield Path(source)
        return
    from fmcib_module.pacs.dicomweb import fetched, parse_source
    from fmcib_module.pacs.web import read_access

    study = parse_source(source)
    with ExitStack() as until_the_end:
        with Display(json_log=json_log) as display:
            folder = until_the_end.enter_context(fetched(study, read_access(), display.fetched))
        yield folder


def check_store(source: str, *, store: bool) -> None:
    """Refuse --store where there is nobody to send results to.

    Raises:
        ConfigError: INPUT is a folder.
    """
    if store and not is_dicomweb(source):
        raise ConfigError("INPUT is a folder", "--store", "leave it out, or name a study as dicomweb+https://...")


def send_results(source: str, output: Path, code: int) -> int:
    """Send SEG and SR to where the study came from; returns the exit code, 3 where the server did not take them."""
    from fmcib_module.pacs.dicomweb import parse_source, store

    ledger = read_ledger(output)
    if ledger is None or code not in (ExitCode.OK, ExitCode.PARTIAL):
        return code
    try:
        sent = store(parse_source(source), None, output, ledger)
    except PeerError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(ExitCode.PARTIAL)
    print(f"{sent} object(s) sent", file=sys.stderr)
    return code


def is_dicomweb(source: str) -> bool:
    """Whether INPUT names a study of a DICOMweb server."""
    return source.startswith("dicomweb+")
