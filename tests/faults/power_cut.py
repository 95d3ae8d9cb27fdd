"""Simulates a power cut: a folder keeps what was synced, and of everything else as little as a disk may keep.

In the process under test, `record` notes what each fsync makes durable: the bytes of a file or the names in a folder.
After the process has ended, `cut` turns the folder into one that a file system may show after a power cut: bytes that
were not synced are missing, partly missing or zeros; each name that was not synced is as at the folder's last fsync or
as now (a rename is one change). No file system keeps less.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import stat
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Set

JOURNAL = "journal.jsonl"
Entries = Dict[str, List[Any]]  # by name: ["file", inode], ["folder", inode], ["link", target]


# -- in the process under test ---------------------------------------------------------------------------------


class _Recorder:
    """Notes what is durable of `root` in `shadow`, a folder beside it on the same file system."""

    def __init__(self, root: Path, shadow: Path) -> None:
        self._root, self._shadow = os.path.realpath(str(root)), shadow
        shadow.mkdir()
        self._journal = (shadow / JOURNAL).open("w", encoding="utf-8")
        self._copies = 0
        self._held: List[int] = []  # open folders, so that the inode numbers of removed ones are not reused
        self.fsync = os.fsync
        for folder, _, files in os.walk(self._root):  # existing content counts as synced
            self._folder(os.open(folder, os.O_RDONLY))
            for name in files:
                path = os.path.join(folder, name)
                if not os.path.islink(path):
                    self._file(path)

    def synced(self, descriptor: int) -> None:
        """Replaces os.fsync."""
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if path == self._root or path.startswith(self._root + os.sep):
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                self._folder(os.dup(descriptor))
            else:
                self._file(path)

    def _folder(self, descriptor: int) -> None:
        self._held.append(descriptor)
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        entries = _listing(path)
        for name, (kind, number) in entries.items():
            if kind == "file":
                self._hold(os.path.join(path, name), number)
        self._write({"folder": os.fstat(descriptor).st_ino, "entries": entries})

    def _file(self, path: str) -> None:
        number = os.stat(path).st_ino
        self._hold(path, number)
        self._copies += 1
        shutil.copyfile(path, str(self._shadow / f"copy-{self._copies}"))
        self._write({"file": number, "copy": f"copy-{self._copies}"})

    def _hold(self, path: str, number: int) -> None:
        held = self._shadow / f"inode-{number}"
        if not held.exists():
            os.link(path, str(held))

    def _write(self, line: Dict[str, Any]) -> None:
        self._journal.write(json.dumps(line) + "\n")
        self._journal.flush()


def record(root: Path, shadow: Path) -> Callable[[int], None]:
    """Replace os.fsync by one that notes in `shadow` what is synced under `root`. Returns it."""
    recorder = _Recorder(root, shadow)
    os.fsync = recorder.synced  # type: ignore[assignment]  # a test need not reach the disk
    return recorder.synced


def _listing(path: str) -> Entries:
    found: Entries = {}
    for entry in os.scandir(path):
        if entry.is_symlink():
            found[entry.name] = ["link", os.readlink(entry.path)]
        else:
            found[entry.name] = ["folder" if entry.is_dir() else "file", entry.inode()]
    return found


# -- after it has ended ----------------------------------------------------------------------------------------


def cut(root: Path, shadow: Path, rng: random.Random) -> None:
    """Turn `root` into what a power cut may have left of it, and remove `shadow`."""
    after = root.with_name(root.name + "-after")
    _Disk(root, shadow, rng).write(after)
    shutil.rmtree(str(root))
    os.rename(str(after), str(root))
    shutil.rmtree(str(shadow))


class _Disk:
    def __init__(self, root: Path, shadow: Path, rng: random.Random) -> None:
        self._root, self._shadow, self._rng = root, shadow, rng
        self._folders: Dict[int, Entries] = {}
        self._copies: Dict[int, Path] = {}
        for text in (shadow / JOURNAL).read_text(encoding="utf-8").splitlines():
            line = json.loads(text)
            if "folder" in line:
                self._folders[line["folder"]] = line["entries"]
            else:
                self._copies[line["file"]] = shadow / line["copy"]
        self._live: Dict[int, str] = {}  # current path of each folder
        for folder, _, _ in os.walk(str(root)):
            self._live[os.stat(folder).st_ino] = folder
        self._lose = rng.choice([1.0, 1.0, 0.5, 0.2, 0.0])  # probability that a change of names is lost

    def write(self, target: Path) -> None:
        self._write_folder(os.stat(str(self._root)).st_ino, target)

    def _write_folder(self, number: int, target: Path) -> None:
        target.mkdir()
        safe, live = self._folders.get(number, {}), self._live.get(number)
        now = _listing(live) if live else safe
        for names in _changes(safe, now):
            chosen = safe if self._rng.random() < self._lose else now
            for name in sorted(names & set(chosen)):
                self._write_entry(live, name, chosen[name], target / name)

    def _write_entry(self, folder: Optional[str], name: str, entry: List[Any], target: Path) -> None:
        kind, what = entry
        if kind == "link":
            os.symlink(what, str(target))
        elif kind == "folder":
            self._write_folder(what, target)
        else:
            held = self._shadow / f"inode-{what}"
            target.write_bytes(self._bytes(what, (held if held.exists() else Path(str(folder), name)).read_bytes()))

    def _bytes(self, number: int, now: bytes) -> bytes:
        safe = self._copies[number].read_bytes() if number in self._copies else b""
        if now == safe:
            return now
        if not now.startswith(safe):
            return self._rng.choice([safe, now])
        kept = now[: self._rng.choice([len(safe), self._rng.randint(len(safe), len(now))])]
        return kept + (b"\0" * (len(now) - len(kept)) if self._rng.random() < 0.3 else b"")


def _changes(safe: Entries, now: Entries) -> List[Set[str]]:
    """All names, grouped into those that change together: a rename changes two names at once."""
    sets = {name: {name} for name in {*safe, *now}}
    for old, entry in sorted(safe.items()):
        for new, other in sorted(now.items()):
            if old != new and entry == other and entry[0] != "link" and now.get(old) != entry:
                together = sets[old] | sets[new]
                for name in together:
                    sets[name] = together
    return [sets[name] for name in sorted(sets) if name == min(sets[name])]
