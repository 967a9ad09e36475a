"""`fmcib verify`: does this installation compute what it should?"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fmcib_module.core.ledger import ExitCode
from fmcib_module.settings import Device, Engine, Precision, Settings

WORDS = {True: "pass", False: "FAIL", None: "not checked"}


def verify_command(
    weights: Annotated[str, typer.Option(help="Name in `fmcib weights list`, or a file.")] = Settings().weights,
    device: Annotated[Device, typer.Option(help="Where the network runs.")] = Device.AUTO,
    engine: Annotated[Engine, typer.Option(help="What runs the network there.")] = Engine.AUTO,
    precision: Annotated[Precision, typer.Option(help="As in `fmcib run`.")] = Precision.FLOAT32,
    against: Annotated[
        Path | None, typer.Option(help="Features recorded earlier.", show_default="the packaged ones")
    ] = None,
    record: Annotated[
        Path | None, typer.Option(help="Write the features of the reference patches to this file, after the checks.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per check.")] = False,
) -> None:
    """Check weights, geometry, the network's numbers and the outputs of this installation; about 10 seconds.

    For an acceptance test after each update. Exit codes: 0 every check passed or could not be made; 2 wrong usage or
    weights; 3 a check failed.
    """
    from fmcib_module import verification

    options = {"device": device, "engine": engine, "precision": precision}
    failed = False
    for check in verification.verify_installation(weights, against=against, **options):
        failed |= check.passed is False
        if as_json:
            print(json.dumps({**asdict(check), "passed": check.passed}))
        else:
            found = "" if check.measured is None else f" {check.measured:.3g} (limit {check.limit:g}) {check.unit};"
            print(f"{WORDS[check.passed]:11} {check.name}:{found} {check.note}")
    if record is not None and not failed:
        verification.record(weights, record, **options)
    raise typer.Exit(int(ExitCode.PARTIAL if failed else ExitCode.OK))
