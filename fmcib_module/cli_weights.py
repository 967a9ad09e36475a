"""`fmcib weights list | fetch | verify | reference`."""

from pathlib import Path
from typing import Annotated

import typer

from fmcib_module.cli_display import Display, show_weights

weights_app = typer.Typer(help="List, fetch and verify weights.", no_args_is_help=True)

NameOrFile = Annotated[str, typer.Argument(help="Name in `fmcib weights list`, or a file.")]


@weights_app.command("list")
def list_command() -> None:
    """Show which weights there are, their licence, and whether they are on this machine."""
    from fmcib_module.adapters.weights import list_weights

    show_weights(list_weights())


@weights_app.command("fetch")
def fetch_command(
    name: Annotated[str, typer.Argument(help="Name in `fmcib weights list`.")],
    url: Annotated[str | None, typer.Option(help="Fetch from a mirror; the checksum stays the same.")] = None,
    sha256: Annotated[
        str | None, typer.Option(help="Expect another file on purpose; every output will say so.")
    ] = None,
) -> None:
    """Download weights with progress and resume, verify them and convert them once to safetensors."""
    from fmcib_module.adapters.weights import fetch

    with Display() as display:
        info = fetch(name, url=url, sha256=sha256, progress=display.bytes_done)
    print(f"{info.name}: {info.n_features} features, SHA-256 {info.sha256}, licence {info.licence}")


@weights_app.command("verify")
def verify_command(name: NameOrFile) -> None:
    """Check that weights are whole and are the ones that the registry names."""
    from fmcib_module.adapters.weights import verify

    info = verify(name, again=True)
    print(f"{info.name}: ok, {info.n_features} features, SHA-256 {info.sha256}")


@weights_app.command("reference")
def reference_command(
    table: Annotated[
        Path, typer.Argument(help="features.parquet of a run over the cohort, or a feature table of `training`.")
    ],
    cohort: Annotated[str, typer.Option(help="What the lesions are, in a few words; stands in the file.")],
    output: Annotated[
        Path | None, typer.Option(help="File to write.", show_default="in the cache, where runs find it")
    ] = None,
) -> None:
    """Make the reference statistics that `far_from_reference` is judged by, from a cohort of one's own."""
    from fmcib_module.reference_cohort import make_reference

    reference = make_reference(table, cohort=cohort, output=output)
    print(
        f"{reference.n_lesions} lesions of {reference.n_patients} patients, "
        f"{len(reference.variances)} components, limit {reference.limit:.1f}"
    )
