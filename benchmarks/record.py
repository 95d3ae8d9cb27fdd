"""The record of a row: what both sides ran, on which machine, and the seconds of every round."""

from __future__ import annotations

import dataclasses
import datetime
import json
import statistics
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from benchmarks.contender import Ran
from benchmarks.rows import Row
from shared.errors import UsageError, reason
from shared.run.provenance import commit, machine
from shared.system import processor
from shared.system.atomic_files import write_atomic
from shared.system.strict_json import typed

KINDS = ("cpu", "cuda")  # of devices; records lie in a folder for each


@dataclasses.dataclass(frozen=True)
class SideRecord:
    """What one side was, and its rounds."""

    what: str
    versions: Dict[str, str]
    seconds: Tuple[float, ...]
    images: Tuple[int, ...]  # of each round
    processor_time: bool  # of one core, in place of the clock's

    @classmethod
    def of(cls, facts: Mapping[str, Any], ran: Sequence[Ran]) -> SideRecord:
        """From what the contender said of itself and its rounds."""
        seconds, images = tuple(each.seconds for each in ran), tuple(each.images for each in ran)
        return cls(facts["what"], dict(facts["versions"]), seconds, images, bool(facts["processor_time"]))

    @property
    def rates(self) -> List[float]:
        """Images per second of each round."""
        return [images / seconds for images, seconds in zip(self.images, self.seconds)]


class Spread(NamedTuple):
    """Of the rounds."""

    median: float
    least: float
    most: float


@dataclasses.dataclass(frozen=True)
class Record:
    """A measured row. `findings` are those of a check, which has no rounds; `images` says which files were read."""

    row: str
    question: str
    kind: str
    device: str  # its name; that of the processor on a CPU
    machine: str
    date: str  # UTC, ISO 8601
    commit: str
    ours: SideRecord
    findings: Tuple[str, ...]
    peer: Optional[SideRecord] = None
    images: str = ""
    tiny: bool = False

    @property
    def ratios(self) -> List[float]:
        """How many times as fast ours was as its peer, of each round."""
        return [] if self.peer is None else [own / other for own, other in zip(self.ours.rates, self.peer.rates)]


def spread(values: Sequence[float]) -> Spread:
    """Median and range."""
    return Spread(statistics.median(values), min(values), max(values))


def new_record(row: Row, kind: str, ours: SideRecord, peer: Optional[SideRecord], facts: Mapping[str, Any]) -> Record:
    """The record of a row measured now; `facts` are those of our side, and images and tiny."""
    date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return Record(
        row.name,
        row.question,
        kind,
        facts["device"] or processor.name(),
        machine(),
        date,
        commit() or "unknown",
        ours,
        tuple(facts["findings"]),
        peer,
        facts["images"],
        facts["tiny"],
    )


def verdict(row: Row, record: Optional[Record]) -> str:
    """met, missed, passed or failed; empty where nothing is aimed at. By the figures as shown."""
    if record is None:
        return "not measured"
    if row.peer is None:
        return "failed" if record.findings else "passed"
    if row.aim is None:
        return ""
    if row.aim_seconds:
        return "met" if round(spread(record.ours.seconds).median, 1) <= row.aim else "missed"
    return "met" if round(spread(record.ratios).median, 2) >= row.aim else "missed"


def write(record: Record, folder: Path) -> Path:
    """Write the record into its kind's folder, in place of an earlier one. Raises UsageError where it cannot be."""
    path = folder / record.kind / f"{record.row}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(dataclasses.asdict(record), indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise UsageError(f"cannot write {path} ({reason(error)}); choose another --records") from error
    return path


def read(folder: Path, kind: str) -> Dict[str, Record]:
    """The records of a kind of device by row. Raises UsageError for a file that is none."""
    found = {}
    for path in sorted((folder / kind).glob("*.json")):
        try:
            record = typed(Record, json.loads(path.read_text(encoding="utf-8")))
            rounds = {len(side.seconds) for side in (record.ours, record.peer) if side}
            images = {len(side.images) for side in (record.ours, record.peer) if side}
            if rounds != images or len(rounds) != 1 or min(record.ours.seconds, default=1.0) <= 0:
                raise ValueError("its rounds do not match")
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(f"{path} is no record of a benchmark ({error}); remove it") from error
        found[record.row] = record
    return found
