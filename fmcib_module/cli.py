"""The command line: `fmcib run | demo | inspect | report | weights`; errors become exit codes here and nowhere else."""

import json
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from fmcib_module import __version__
from fmcib_module.cli_batch import batch_command
from fmcib_module.cli_dicomweb import check_store, input_folder, send_results
from fmcib_module.cli_display import Display, show_inspection, show_ledger
from fmcib_module.cli_serve import serve_command
from fmcib_module.cli_verify import verify_command
from fmcib_module.cli_watch import watch_command
from fmcib_module.cli_weights import weights_app
from fmcib_module.core.conventions import Irregular, Mode, SeedKind
from fmcib_module.core.errors import FmcibError
from fmcib_module.core.ledger import LEDGER_NAME, ExitCode, Ledger
from fmcib_module.settings import Device, Engine, Precision, Settings, read_settings, settings_from_dict

app = typer.Typer(
    name="fmcib",
    help="DICOM CT with RTSTRUCT, SEG or seed points in; foundation-model features per lesion out. Research use only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(weights_app, name="weights")
app.command("batch")(batch_command)
app.command("serve")(serve_command)
app.command("verify")(verify_command)
app.command("watch")(watch_command)

Input = Annotated[Path, typer.Argument(help="Folder with DICOM objects, images and seed files; any layout.")]
Source = Annotated[
    str, typer.Argument(metavar="INPUT", help="Folder as of `inspect`, or dicomweb+https://HOST/PATH?study=UID.")
]
Output = Annotated[Path, typer.Argument(help="Folder for the results.")]
JsonLog = Annotated[bool, typer.Option("--json-log", help="One JSON object per line instead of text.")]
Config = Annotated[Path | None, typer.Option("--config", help="YAML file with settings; options below win.")]
Weights = Annotated[
    str | None, typer.Option(help="Name in `fmcib weights list`, or a file.", show_default=Settings().weights)
]
ModeOption = Annotated[Mode | None, typer.Option(help="How patches are cut.", show_default=Settings().mode.value)]
Roi = Annotated[
    list[str] | None, typer.Option(help="ROI name, number or re:REGEX; may be repeated. Default: all ROIs.")
]
SeedSource = Annotated[
    list[SeedKind] | None, typer.Option(help="Kinds of seed sources to use; may be repeated. Default: all.")
]
IrregularOption = Annotated[
    Irregular | None,
    typer.Option(help="Gantry tilt, gaps, uneven spacing: refuse, or resample and flag.", show_default="refuse"),
]


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        print(f"fmcib {__version__}")
        raise typer.Exit


@app.command("run")
def run_command(
    source: Source,
    output: Output,
    config: Config = None,
    weights: Weights = None,
    mode: ModeOption = None,
    roi: Roi = None,
    seed_source: SeedSource = None,
    irregular: IrregularOption = None,
    device: Annotated[Device | None, typer.Option(help="Where the network runs.", show_default="auto")] = None,
    engine: Annotated[Engine | None, typer.Option(help="What runs the network there.", show_default="auto")] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(help="bf16 is faster; the ledger reports how far it is from float32.", show_default="float32"),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Patches per forward pass; 0 is automatic.")] = None,
    stability: Annotated[
        int | None, typer.Option(help="Repeat each lesion from so many jittered seeds and compare.", show_default="0")
    ] = None,
    compare_modes: Annotated[
        bool | None, typer.Option("--compare-modes", help="Compute each lesion in all modes and compare.")
    ] = None,
    extractor: Annotated[
        list[str] | None,
        typer.Option(help="Other extractors beside the weights (docs/extractors.md), as in `med3d=FILE,radiomics`."),
    ] = None,
    head: Annotated[
        list[Path] | None,
        typer.Option(help="Fitted head (docs/probe.md): its probability or risk of each lesion; may be repeated."),
    ] = None,
    sr: Annotated[bool | None, typer.Option("--sr/--no-sr", help="DICOM SR per series.", show_default="sr")] = None,
    seg: Annotated[
        bool | None, typer.Option("--seg/--no-seg", help="Derived DICOM SEG per series.", show_default="seg")
    ] = None,
    pictures: Annotated[
        bool | None, typer.Option("--pictures/--no-pictures", help="A PNG per lesion.", show_default="pictures")
    ] = None,
    save_patches: Annotated[
        bool | None, typer.Option("--save-patches", help="An NRRD per lesion: the cube that the network sees.")
    ] = None,
    report: Annotated[
        bool | None, typer.Option("--report/--no-report", help="report.html over the run.", show_default="report")
    ] = None,
    identifiers: Annotated[
        bool | None, typer.Option("--identifiers", help="Put patient name, ID, date and description on the ledger.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace earlier results in OUTPUT.")] = False,
    store: Annotated[bool, typer.Option("--store", help="Send SR and SEG to the server the study came from.")] = False,
    json_log: JsonLog = False,
) -> None:
    """Compute features of every lesion marked in INPUT.

    Exit codes: 0 every requested lesion has features; 2 wrong usage, configuration or weights, nothing was run;
    3 some series or ROI failed, all others are written; 4 no lesion came through.
    """
    options = {
        "weights": weights,
        "mode": mode,
        "rois": roi,
        "seed_sources": seed_source,
        "irregular": irregular,
        "device": device,
        "engine": engine,
        "precision": precision,
        "batch_size": batch_size,
        "stability": stability,
        "compare_modes": compare_modes,
        "extractors": [name for names in extractor for name in names.split(",")] if extractor else None,
        "heads": head,
        "sr": sr,
        "seg": seg,
        "pictures": pictures,
        "save_patches": save_patches,
        "report": report,
        "identifiers": identifiers,
    }
    settings = _settings(config, options)
    check_store(source, store=store)
    with input_folder(source, json_log=json_log) as folder:
        code = _run(folder, output, settings, force=force, json_log=json_log)
    raise typer.Exit(send_results(source, output, code) if store else code)


@app.command("demo")
def demo_command(
    output: Annotated[Path, typer.Argument(help="Folder for the example patient and its results.")] = Path(
        "demo_output"
    ),
    weights: Weights = None,
    json_log: JsonLog = False,
) -> None:
    """Write an example patient (a made-up chest CT with RTSTRUCT, SEG and seed points) and run it."""
    from fmcib_module.adapters.example import write_example

    settings = _settings(None, {"weights": weights})
    source = write_example(output / "input")
    raise typer.Exit(_run(source, output / "results", settings, force=True, json_log=json_log))


@app.command("inspect")
def inspect_command(
    source: Input,
    config: Config = None,
    mode: ModeOption = None,
    roi: Roi = None,
    seed_source: SeedSource = None,
    irregular: IrregularOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the ledger that a run would start from.")] = False,
) -> None:
    """Show series and ROIs in INPUT, what would run and what would not, and why; nothing is written.

    The exit code is the one that `run` would return if nothing else goes wrong.
    """
    from fmcib_module.inspection import inspect_folder

    options = {"mode": mode, "rois": roi, "seed_sources": seed_source, "irregular": irregular}
    settings = _settings(config, options)
    display = Display(json_log=as_json)
    with display:
        inspection = inspect_folder(source, settings=settings, scanned=display.progress.scanned)
    if as_json:
        print(json.dumps(inspection.ledger.to_dict(), indent=1))
    else:
        show_inspection(inspection)
    raise typer.Exit(int(inspection.ledger.exit_code))


@app.command("report")
def report_command(
    output: Annotated[Path, typer.Argument(help="OUTPUT folder of an earlier run.")],
) -> None:
    """Write OUTPUT/report.html again: what happened, a table with pictures, a map of the features; one file."""
    from fmcib_module.report import write_report

    print(write_report(output))


def _settings(config: Path | None, options: dict[str, Any]) -> Settings:
    given = {key: value for key, value in options.items() if value is not None}
    return read_settings(config, **given) if config else settings_from_dict(given, where="options")


def _run(source: Path, output: Path, settings: Settings, *, force: bool, json_log: bool) -> int:
    from fmcib_module.lazy_encoder import LazyEncoder

    encode = LazyEncoder(settings)
    if force or not (output / LEDGER_NAME).exists():  # else there may be nothing left to encode
        encode.load_ahead()  # while the rest is imported
    from fmcib_module.pipeline import run

    with Display(json_log=json_log) as display:
        ledger: Ledger = run(source, output, settings=settings, force=force, progress=display.progress, encode=encode)
    show_ledger(ledger, output, json_log=json_log)
    return int(ledger.exit_code)


def main() -> None:
    """Entry point: our own errors end with exit code 2 and one clear message, never with a traceback."""
    warnings.filterwarnings("ignore", module="pydicom|highdicom")  # they quote the patient's data
    try:
        app()
    except FmcibError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(int(ExitCode.USAGE))
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
