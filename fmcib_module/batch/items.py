"""What a manifest lists: items, each done by one worker and committed once."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Self

from fmcib_module.core.domain import Point
from fmcib_module.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class SeedRow:
    """A seed point that the manifest itself holds.

    Attributes:
        label: Empty where it has none.
        lps_mm: LPS millimetres.
    """

    label: str
    lps_mm: Point


@dataclass(frozen=True, slots=True)
class Item:
    """One series as the manifest names it, with what marks its lesions.

    Attributes:
        sources: Folders, files or prefixes that hold its objects: URLs, or paths, as the manifest writes them.
        seeds: Points that the manifest gives; none where its RTSTRUCT, SEG or tables are among the sources.
        series_uid: SeriesInstanceUID; empty where only the headers tell.
    """

    sources: tuple[str, ...]
    seeds: tuple[SeedRow, ...] = ()
    series_uid: str = ""

    @property
    def key(self) -> str:
        """Names the item in the output store: 24 hexadecimal digits that follow from what the manifest says of it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:24]

    @property
    def name(self) -> str:
        """For messages: its UID, else the last part of its first source."""
        return self.series_uid or self.sources[0].rstrip("/").rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several disjoint parts of a manifest.

    Attributes:
        number: From 1.
        count: How many parts there are.
    """

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """From "3/16".

        Raises:
            ConfigError: It is not two numbers, the first from 1 to the second.
        """
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ConfigError(f"shard is {text!r}", "--shard", "write 3/16 for the third of sixteen parts")
        return cls(int(match[1]), int(match[2]))

    def choose(self, items: Iterable[Item]) -> list[Item]:
        """The items of this part; which one an item belongs to depends on nothing but the item and the count."""
        return [item for item in items if int(item.key, 16) % self.count == self.number - 1]


def merge_rows(rows: Sequence[Item]) -> list[Item]:
    """One item per set of sources: rows that differ in their seed points only are one series with several lesions.

    The order of first mention is kept, and a row that is there twice counts once.
    """
    grouped: dict[tuple[tuple[str, ...], str], dict[SeedRow, None]] = {}
    for row in rows:
        grouped.setdefault((row.sources, row.series_uid), {}).update(dict.fromkeys(row.seeds))
    return [Item(sources, tuple(seeds), series_uid) for (sources, series_uid), seeds in grouped.items()]
