"""`fmcib batch`: a manifest of series over the cores and GPUs of one machine or a Ray cluster."""

from pathlib import Path
from typing import Annotated

import typer

from fmcib_module.cli_display import Display, show_ledger
from fmcib_module.core.errors import ConfigError
from fmcib_module.settings import Settings, read_settings, settings_from_dict


def batch_command(
    manifest: Annotated[
        Path, typer.Argument(help="CSV or Parquet of series, an s5cmd manifest, or a list of SeriesInstanceUIDs.")
    ],
    output: Annotated[str, typer.Argument(help="Folder, s3:// or gs:// for the results.")],
    config: Annotated[Path | None, typer.Option("--config", help="YAML file with settings; options below win.")] = None,
    weights: Annotated[str | None, typer.Option(help="Name in `fmcib weights list`, or a file.")] = None,
    settings_given: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting as KEY=VALUE; may be repeated.")
    ] = None,
    shard: Annotated[str, typer.Option(help="Do one of several parts, as in 3/16; merge them with --merge.")] = "1/1",
    merge: Annotated[
        bool, typer.Option("--merge", help="Do no series; write the tables and ledger over what jobs have done.")
    ] = False,
    root: Annotated[
        Path | None, typer.Option(help="What relative paths are relative to.", show_default="the manifest's folder")
    ] = None,
    ray_address: Annotated[
        str, typer.Option(help="A running Ray cluster (auto: this machine's); else one is started here.")
    ] = "",
    cpus_per_worker: Annotated[int, typer.Option(help="Cores of each worker where there is no GPU.")] = 2,
    scratch: Annotated[
        Path | None, typer.Option(help="Folder for downloads.", show_default="fmcib-batch in the temporary folder")
    ] = None,
    scratch_gb: Annotated[float, typer.Option(help="Most of it that one worker fills, gigabytes.")] = 20.0,
    anonymous: Annotated[bool, typer.Option("--anonymous", help="Public buckets: send no credentials.")] = False,
    idc_indices: Annotated[
        Path | None, typer.Option(help="Folder with rtstruct_index.parquet and seg_index.parquet of idc-index.")
    ] = None,
    json_log: Annotated[bool, typer.Option("--json-log", help="One JSON object per line instead of text.")] = False,
) -> None:
    """Compute features of every lesion of every series in MANIFEST; run again to go on where it stopped.

    Exit codes: 0 every requested lesion has features; 2 wrong usage, configuration or weights, nothing was run;
    3 some series or ROI failed or is not done yet, all others are written; 4 no lesion came through.
    """
    from fmcib_module.batch.engine import Cluster
    from fmcib_module.batch.items import Shard
    from fmcib_module.batch.job import BatchOptions, run_batch

    options = BatchOptions(
        shard=Shard.parse(shard),
        cluster=Cluster(ray_address, cpus_per_worker),
        root=root,
        indices=idc_indices,
        scratch_gb=scratch_gb,
        anonymous=anonymous,
        merge_only=merge,
        **({} if scratch is None else {"scratch": scratch}),
    )
    settings = _settings(config, weights, settings_given or [])
    with Display(json_log=json_log) as display:
        ledger = run_batch(manifest, output, settings=settings, options=options, progress=display.progress)
    show_ledger(ledger, Path(output), json_log=json_log)
    raise typer.Exit(int(ledger.exit_code))


def _settings(config: Path | None, weights: str | None, given: list[str]) -> Settings:
    """The file's settings, with those of the command line in their place."""
    import yaml

    values = {} if weights is None else {"weights": weights}
    for text in given:
        key, equals, value = text.partition("=")
        try:
            values[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"{text!r} is not KEY=VALUE", "--set", "write a value as in a settings file") from error
        if not equals:
            raise ConfigError(f"{text!r} is not KEY=VALUE", "--set", "write for example --set mode=centred")
    return read_settings(config, **values) if config else settings_from_dict(values, where="options")
