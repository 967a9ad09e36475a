"""Step 1: a folder -> one mhubio instance per series that is asked for features."""

import shutil
import time
from dataclasses import replace
from pathlib import Path

from mhubio.core import Instance, Module

from fmcib_module import steps
from fmcib_module.adapters.dicom_import import scan_folder
from fmcib_module.core.domain import Scan, Series
from fmcib_module.core.ledger import ProblemEntry, SeriesEntry
from fmcib_module.output import EarlierResults, now
from fmcib_module.pipeline import check_run, describe_run
from fmcib_module.settings import Settings
from fmcib_module.work import SeriesWork, digest_input, save_work

from .handover import INSTANCES, SCAN, SCAN_JSON, SERIES, SERIES_NAME, ScanFacts, add_data
from .workflow import config_of, exit_on_error, settings_of, source_dir, target_dir


class DicomImporter(Module):
    """Scan `source_dir` once: DICOM objects, image files and seed files in any layout.

    Settings, weights and the output folder are checked first; if one is wrong, the process ends with exit code 2.
    """

    def task(self) -> None:
        """Make the instances; what concerns the whole run goes to the global instance."""
        with exit_on_error():
            settings = settings_of(config_of(self.config))
            source, output = source_dir(config_of(self.config)), target_dir(config_of(self.config))
            provenance = check_run(source, output, settings)
            run = {**describe_run(settings, provenance), "started": now()}
            earlier = EarlierResults(output, run)
            started = time.perf_counter()
            scan = scan_folder(source, exclude=output)
            facts = ScanFacts(
                run=run,
                provenance=provenance,
                scan_s=time.perf_counter() - started,
                problems=tuple(map(ProblemEntry.of, scan.problems)),
                ignored_files=scan.ignored_files,
                skipped=(),
                planned=(),
            )
            facts = self._add_series(scan, settings, earlier, facts)
        add_data(self.config.data.globalInstance, "fmcib_scan.json", SCAN).write_bytes(SCAN_JSON.dump_json(facts))
        to_do = len(self.config.data.instances)
        self.log(f"{len(facts.planned)} series with lesions, {to_do} of them to do; {len(facts.skipped)} skipped")

    def _add_series(self, scan: Scan, settings: Settings, earlier: EarlierResults, facts: ScanFacts) -> ScanFacts:
        shutil.rmtree(Path(self.config.data.abspath) / INSTANCES, ignore_errors=True)
        for series in (series for study in scan.studies for series in study.series):
            if reason := steps.why_skipped(series, settings):
                facts = replace(facts, skipped=(*facts.skipped, SeriesEntry.skipped(series, reason)))
                continue
            digest = digest_input(series)
            entry = earlier.taken_over(series.output_name, digest)
            facts = replace(facts, planned=(*facts.planned, (series.output_name, entry)))
            if entry is None:
                self._add_instance(SeriesWork(series=series, input_sha256=digest))
        return facts

    def _add_instance(self, work: SeriesWork) -> None:
        series = work.series
        instance = Instance(path=f"{INSTANCES}/{series.output_name}")
        self.config.data.addInstance(instance)
        instance.setAttribute("sid", series.uid)
        instance.setAttribute("output", series.output_name)
        save_work(work, add_data(instance, SERIES_NAME, SERIES))
        if (folder := _own_folder(series)) is not None:
            add_data(instance, folder.resolve(), f"dicom:mod={series.modality.lower()}")


def _own_folder(series: Series) -> Path | None:
    """The folder that holds this series and nothing else, for mhubio's own modules; None if there is none."""
    paths = {instance.path for instance in series.instances}
    folders = {path.parent for path in paths}
    if len(folders) != 1:
        return None
    folder = folders.pop()
    return folder if set(folder.iterdir()) == paths else None
