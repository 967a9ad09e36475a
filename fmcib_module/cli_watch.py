"""`fmcib watch`: the chain beside an Orthanc."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from fmcib_module.core.ledger import ExitCode
from fmcib_module.settings import Settings, read_settings, settings_from_dict


def watch_command(
    folder: Annotated[Path, typer.Argument(help="For state, pulled objects and the last results.")],
    orthanc: Annotated[str, typer.Option(help="URL of the Orthanc; credentials do not belong into it.")],
    credentials: Annotated[
        Path | None, typer.Option(help="YAML file: user and password, or token; ca. Default: FMCIB_PACS_* variables.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="YAML file with settings of the run.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="Name in `fmcib weights list`, or a file.", show_default=Settings().weights)
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Do what there is to do and end, for cron.")] = False,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="At the first start, also run studies that are there already.")
    ] = False,
    poll: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 5.0,
    keep: Annotated[int, typer.Option(min=0, help="How many studies' results stay in the folder.")] = 100,
    free_disk: Annotated[float, typer.Option(min=0, help="GB that stay free; studies wait until then.")] = 5.0,
    plain_http: Annotated[
        bool, typer.Option("--plain-http", help="Allow http to another machine, inside a network you trust.")
    ] = False,
) -> None:
    """Follow the changes of an Orthanc, run each study with CT and lesions marked on it, put SR and SEG back.

    Exit codes: 0 stopped, or with --once all done; 2 wrong usage or settings, or the Orthanc refuses; 3 with --once,
    some study failed.
    """
    from fmcib_module.pacs.orthanc_watch import WatchSettings, watch
    from fmcib_module.pacs.web import check_url, read_access
    from fmcib_module.pipeline import check_settings

    given = {} if weights is None else {"weights": weights}
    run = read_settings(config, **given) if config else settings_from_dict(given, where="options")
    check_settings(run)
    settings = WatchSettings(
        folder=folder,
        url=check_url(orthanc, plain_http=plain_http),
        run=run,
        from_start=from_start,
        poll_s=poll,
        keep=keep,
        free_disk_gb=free_disk,
    )
    failed = watch(settings, read_access(credentials), sys.stderr, once=once)
    raise typer.Exit(int(ExitCode.PARTIAL if failed else ExitCode.OK))
