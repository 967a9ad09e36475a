"""`python -m training VERB config.yml`. Exit codes: 0 done; 2 wrong usage, settings or weights; 3 it failed."""

import logging
import sys
import warnings
from pathlib import Path
from typing import Final

from fmcib_module.core.errors import ConfigError, FmcibError, WeightsError
from training.verbs import VERBS, load_verb

log = logging.getLogger("training")

EXIT_USAGE: Final = 2
EXIT_FAILED: Final = 3

HINTING: Final = ("lightning.pytorch", "lightning.fabric", "numexpr")
"""Libraries whose hints are no news of a run."""


def main(arguments: list[str]) -> int:
    """Run one verb; every error that we raise on purpose becomes one line and an exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    _quieten()
    # lightning 2.6 still names torch's LeafSpec, each time it looks into a batch
    warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
    try:
        if len(arguments) != 2 or arguments[0] not in VERBS:
            found = " ".join(arguments[:1]) or "nothing"
            raise ConfigError(f"no such verb or no settings: {found}", "command line", f"use {'|'.join(VERBS)} FILE")
        verb = load_verb(arguments[0])
        _quieten()  # lightning sets its level when it is imported
        verb(Path(arguments[1]))
    except (ConfigError, WeightsError) as error:
        log.error("%s", error)
        return EXIT_USAGE
    except FmcibError as error:
        log.error("%s", error)
        return EXIT_FAILED
    return 0


def _quieten() -> None:
    """Leave out hints on devices, threads and makers' products."""
    for library in HINTING:
        logging.getLogger(library).setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
