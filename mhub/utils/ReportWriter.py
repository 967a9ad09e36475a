"""Step 5: features -> DICOM SR and SEG, CSV, Parquet and the ledger in `target_dir`."""

from pathlib import Path

from mhubio.core import Instance, Module

from fmcib_module import steps
from fmcib_module.adapters.volume_reader import read_volume
from fmcib_module.comparison_tables import write_comparisons
from fmcib_module.core.domain import RoiFailure
from fmcib_module.core.errors import FmcibError
from fmcib_module.core.ledger import LEDGER_NAME, Ledger, Reason, SeriesEntry, Stage
from fmcib_module.output import RunOutput
from fmcib_module.report import write_report
from fmcib_module.settings import Settings
from fmcib_module.side_by_side import SideBySide, write_extractor_tables
from fmcib_module.work import SeriesWork, load_work

from .handover import (
    ENCODER,
    ENCODER_JSON,
    FEATURES,
    INSTANCES,
    LEDGER,
    SCAN,
    SCAN_JSON,
    SERIES_NAME,
    STEPS,
    EncoderFacts,
    ScanFacts,
    add_data,
    find_data,
    load_values,
)
from .workflow import config_of, exit_on_error, settings_of, target_dir


class ReportWriter(Module):
    """Write the same files and the same ledger as `fmcib run`; its settings choose which files are written."""

    def task(self) -> None:
        """All series; an output folder that cannot be written ends the process with exit code 2."""
        with exit_on_error():
            output = target_dir(config_of(self.config))
            facts = self._scan_facts()
            settings = settings_of(config_of(self.config))
            others = SideBySide(settings)
            ledger = self._write(facts, output, settings, others)
            write_comparisons(output, ledger, settings)
            write_extractor_tables(output, ledger, settings)
            if settings.report:
                write_report(output)
        add_data(self.config.data.globalInstance, (output / LEDGER_NAME).resolve(), LEDGER)

    def _write(self, facts: ScanFacts, output: Path, settings: Settings, others: SideBySide) -> Ledger:
        instances = {instance.attr["output"]: instance for instance in self.config.data.instances}
        with RunOutput(output, facts.run) as out:
            out.add_problems(facts.problems, facts.ignored_files)
            out.time("scan", facts.scan_s)
            encoder = self._encoder_facts()
            for step, seconds in encoder.timings_s.items():
                out.time(step, seconds)
            if encoder.encoder is not None:
                out.describe_encoder(encoder.encoder)
            for entry in facts.skipped:
                out.add(entry)
            for name, earlier in facts.planned:
                if earlier is not None:
                    out.add(earlier)
                elif name not in instances:
                    out.add(self._left_out(name))
                else:
                    work = _work_of(instances[name], settings)
                    entry, report = steps.write(work, output, settings=settings, provenance=facts.provenance)
                    out.add(others.add(work, report, entry, output), report)
        return out.ledger

    def _left_out(self, name: str) -> SeriesEntry:
        """A series that a filter of mhubio took out of the workflow."""
        series = load_work(Path(self.config.data.abspath) / INSTANCES / name / SERIES_NAME).series
        where = f"SeriesInstanceUID {series.uid}"
        reason = Reason("Skipped", "another module of the workflow left it out", where, "nothing to do")
        return SeriesEntry.skipped(series, reason)

    def _scan_facts(self) -> ScanFacts:
        path = find_data(self.config.data.globalInstance, SCAN)
        if path is None:
            raise FmcibError("nothing was imported", "ReportWriter", "put DicomImporter first under `execute:`")
        return SCAN_JSON.validate_json(path.read_bytes())

    def _encoder_facts(self) -> EncoderFacts:
        path = find_data(self.config.data.globalInstance, ENCODER)
        return ENCODER_JSON.validate_json(path.read_bytes()) if path else EncoderFacts()


def _work_of(instance: Instance, settings: Settings) -> SeriesWork:
    """A series as the last module left it."""
    features = find_data(instance, FEATURES)
    if features is None:
        return _broken_off(instance, settings)
    work = load_work(features)
    load_values(work, features.with_suffix(".npz"))
    if work.values:
        work.volume = read_volume(work.series, irregular=settings.irregular)
    return work


def _broken_off(instance: Instance, settings: Settings) -> SeriesWork:
    """A series that a module gave up: mhubio goes on after any exception, so the ledger has to tell."""
    left = [find_data(instance, data_type) for data_type, _, _ in STEPS]
    _, stage, module = STEPS[left.index(None)]
    work = load_work([path for path in left[: left.index(None)] if path][-1])
    error = FmcibError(
        f"{module} ended without a result",
        f"SeriesInstanceUID {work.series.uid}",
        f"see {module}.log under mhub_log; if it does not say why, report it as a bug",
    )
    for seed in work.seeds:
        work.fail_seed(seed, error, stage)
    if stage is Stage.FIND:
        for source in (source for source in work.series.roi_sources if source.kind in settings.seed_sources):
            work.fail(RoiFailure(source.uid, None, source.uid, source.kind, error), stage)
    return work
