"""Weights that are named and not yet on this machine: of a repository on the Hugging Face Hub, or at a URL.

    hf-hub:OWNER/NAME@REVISION    its model.safetensors, else its pytorch_model.bin; @REVISION may be left out
    https://HOST/FILE             or another protocol of fsspec
    either with #sha256=DIGITS    8 to 64 of the digits, with which the SHA-256 of the file must begin

A file is fetched once and kept: by huggingface_hub in its own cache, of a URL in this project's. It gets its name there
only when it is complete. It is read as any other file, without running what is in it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple, Optional, Tuple
from urllib.parse import unquote, urlsplit

from shared.errors import UsageError, one_line, reason
from shared.imagenet.download_cache import digest, filesystem, locked, retried, shown
from shared.system import cache_dir
from shared.system.atomic_files import sync
from shared.system.paths import HUB
from shared.system.signals import interruptible

FILES = ("model.safetensors", "pytorch_model.bin")  # of a repository, the first of them that it has
_REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?\Z", re.ASCII)
_OF_DISK = [getattr(errno, name) for name in "ENOSPC EDQUOT EROFS EACCES EPERM EIO".split() if hasattr(errno, name)]
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


class WeightFile(NamedTuple):
    """A file of weights on this machine."""

    path: Path
    name: str  # for a log and a record: the path, a name on the Hub with its commit, a URL without passwords
    sha256: str
    notes: Tuple[str, ...] = ()  # for the log

    @classmethod
    def of_path(cls, path: Path) -> WeightFile:
        """The file at this path. Raises UsageError where it cannot be read."""
        try:
            return cls(path, str(path), digest(str(path))[1])
        except OSError as error:
            raise UsageError(f"{path} cannot be read ({reason(error)}); check its permissions") from error

    @property
    def title(self) -> str:
        """The name, the file where the name is of a repository, and its SHA-256."""
        file = f"{self.path.name}, " if self.name.startswith(HUB) else ""
        return f"{self.name} ({file}SHA-256 {self.sha256})"


def is_repository(text: str) -> bool:
    """Whether this may be the name of a repository on the Hub: OWNER/NAME, OWNER/NAME@REVISION."""
    return _REPOSITORY.match(text) is not None


def fetched(name: str) -> WeightFile:
    """The file of weights with this name, which `shared.system.paths.is_elsewhere`.

    Raises UsageError where it cannot be had or is another than the digits say, Stopped at a signal.
    """
    address, digits = _without_digits(name)
    with interruptible():
        file = _of_hub(address) if address.startswith(HUB) else _of_url(address, digits)
    if not file.sha256.startswith(digits):
        raise UsageError(f"{file.name} has the SHA-256 {file.sha256}, which does not begin with {digits}; {_OTHER}")
    return file


_OTHER = "it is another file, so check the name, or leave #sha256= out"


def _without_digits(name: str) -> Tuple[str, str]:
    """The name without its #sha256=DIGITS, and the digits, "" without any."""
    address, mark, fragment = name.partition("#")
    found = re.fullmatch(r"sha256=([0-9A-Fa-f]{8,64})", fragment)
    if mark and not found:
        what = f"{shown(address)} is followed by #{fragment[:80]}, which is not #sha256= with 8 to 64 digits of it"
        raise UsageError(f"{what}; write it so, or leave it out")
    return address, found.group(1).lower() if found else ""


# -- the Hugging Face Hub --------------------------------------------------------------------------------------


def _of_hub(name: str) -> WeightFile:
    found = _REPOSITORY.match(name[len(HUB) :])
    if not found:
        raise UsageError(f"{name} names no repository; write {HUB}OWNER/NAME, or {HUB}OWNER/NAME@REVISION")
    repository, revision = found.group(1), found.group(2)
    try:
        from huggingface_hub import constants, hf_hub_download, utils
    except ImportError as error:
        site = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
        address = f"{site}/{repository}/resolve/{revision or 'main'}/{FILES[0]}"
        what = f"{name} needs the package huggingface_hub; python -m pip install huggingface_hub"
        raise UsageError(f"{what}, or download {address} and give --checkpoint {FILES[0]}") from error
    path = _hub_file((hf_hub_download, constants, utils), name, repository, revision)
    commit, file = path.parent.name, WeightFile.of_path(path)
    stored = path.resolve().name  # the cache calls a large file by the SHA-256 that the Hub has of it
    if _SHA256.match(stored) and stored != file.sha256:
        what = f"{path} has the SHA-256 {file.sha256} and on the Hub {stored}, so it is damaged"
        raise UsageError(f"{what}; delete {path.resolve()} and fetch it again")
    return file._replace(name=f"{HUB}{repository}@{commit}" if _COMMIT.match(commit) else name)


def _hub_file(hub: Tuple[Any, Any, Any], name: str, repository: str, revision: Optional[str]) -> Path:
    """The file of weights in the cache of huggingface_hub, which fetches it where it is missing or has changed.

    `hub` are its hf_hub_download, constants and utils.
    """
    download, constants, known = hub
    site = constants.ENDPOINT
    absent: List[Exception] = []  # of each file before, why it is not there
    page, file = f"{site}/{repository}", f"{site}/{repository}/resolve/{revision or 'main'}/{FILES[0]}"
    elsewhere = f"download {file} on another machine and give --checkpoint {FILES[0]}"
    for one in FILES:
        unreachable = any(isinstance(error, known.LocalEntryNotFoundError) for error in absent)
        try:
            return Path(download(repository, one, revision=revision, local_files_only=unreachable))
        except known.EntryNotFoundError as error:
            absent.append(error)
        except known.GatedRepoError as error:
            advice = f"ask for it at {page}, then hf auth login, or set HF_TOKEN"
            raise UsageError(f"{name} is only for those who have been given access; {advice}") from error
        except known.RepositoryNotFoundError as error:
            advice = "check the name; for a private one hf auth login, or set HF_TOKEN"
            raise UsageError(f"{name} is not on {site}, or it is private; {advice}") from error
        except known.RevisionNotFoundError as error:
            raise UsageError(f"{repository} has no revision {revision}; look at {page}/tree/main") from error
        except Exception as error:  # the package passes on those of the packages that it uses
            if isinstance(error, OSError) and error.errno in _OF_DISK:
                folder = constants.HF_HUB_CACHE
                advice = "free space, or name another folder with HF_HOME"
                raise UsageError(f"cannot keep {name} in {folder} ({reason(error)}); {advice}") from error
            raise UsageError(f"{name} cannot be fetched ({_first_line(error)}); try again, or {elsewhere}") from error
    if constants.HF_HUB_OFFLINE:
        what = f"{name} is not in {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE is set"
        raise UsageError(f"{what}; unset it, or {elsewhere}")
    if isinstance(absent[0], known.LocalEntryNotFoundError):
        cause = absent[0].__cause__ or absent[0]
        raise UsageError(f"{name} cannot be fetched ({_first_line(cause)}); check the network, or {elsewhere}")
    advice = f"give the address of a file in it, as in --checkpoint {site}/{repository}/resolve/main/FILE"
    raise UsageError(f"{name} has no {' and no '.join(FILES)}; {advice}")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return one_line(": ".join([type(error).__name__, *lines[:1]]))[:160]


# -- URLs ------------------------------------------------------------------------------------------------------


def _of_url(url: str, digits: str) -> WeightFile:
    """The file at a URL: the copy that is kept, unless it is another than the digits say, else a new one."""
    file_name = re.sub(r"[^\w.-]", "_", unquote(urlsplit(url).path).rsplit("/", 1)[-1])[-100:]
    file_name = f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{file_name or 'weights'}"
    for folder in cache_dir.places("weights"):
        kept = _kept(folder / file_name, url, digits)
        if kept:
            return kept
    path = _folder() / file_name
    try:
        with locked(f"{path}.lock"):
            return _kept(path, url, digits) or _download(url, digits, path)
    except ImportError as error:
        raise UsageError(f"this system has no flock, which fetching needs; download {shown(url)} yourself") from error
    except OSError as error:
        advice = "free space, or name another folder with KIT_CACHE"
        raise UsageError(f"cannot keep {shown(url)} in {path.parent} ({reason(error)}); {advice}") from error


def _kept(path: Path, url: str, digits: str) -> Optional[WeightFile]:
    """The copy that is kept; None where there is none, or where it is another file."""
    with contextlib.suppress(OSError):
        sha256 = digest(str(path))[1]
        note = f"note: the copy of {shown(url)} in {path} is used; delete it to have it fetched again"
        return WeightFile(path, shown(url), sha256, (note,)) if sha256.startswith(digits) else None
    return None


def _download(url: str, digits: str, path: Path) -> WeightFile:
    """Fetch the file under another name, look at it, and give it this name. Raises UsageError, OSError of a disk."""
    part = path.with_name(f"{path.name}.part")
    notes: List[str] = []

    def get() -> None:
        files, inside = filesystem(url)
        with _progress(shown(url)) as callback:
            files.get_file(inside, str(part), callback=callback)

    try:
        advice = "check the URL and the network, or download it yourself and give --checkpoint FILE"
        retried(url, get, notes, advice)
        _check_kind(part, shown(url))
        sha256 = digest(str(part))[1]
        if not sha256.startswith(digits):
            what = f"{shown(url)} has the SHA-256 {sha256}, which does not begin with {digits}"
            raise UsageError(f"{what}; {_OTHER}")
        with part.open("rb") as file:
            sync(file.fileno())
        os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return WeightFile(path, shown(url), sha256, tuple(notes))


def _check_kind(path: Path, url: str) -> None:
    """Raise UsageError for a text, such as a web page or the pointer that Git LFS leaves in place of a file."""
    with path.open("rb") as file:
        head = file.read(512)
    with contextlib.suppress(UnicodeDecodeError):
        text = head.decode("ascii")
        if all(letter.isprintable() or letter in "\t\r\n\f" for letter in text):
            what = f"begins with {' '.join(text.split())[:40]!r}, as a page or a text" if text else "is empty"
            advice = "open it in a browser and give the address of the file itself"
            if re.search(r"//(huggingface\.co|github\.com)/", url):
                advice += ", with /resolve/ or /raw/ in place of /blob/"
            raise UsageError(f"{url} {what}, and is no file of weights; {advice}")


@contextlib.contextmanager
def _progress(url: str) -> Iterator[Any]:
    """What fsspec tells of a download: a bar on a terminal."""
    from fsspec import callbacks

    try:
        bar = callbacks.TqdmCallback(
            tqdm_kwargs={"desc": url, "unit": "B", "unit_scale": True, "disable": None, "leave": False}
        )
    except ImportError:  # tqdm
        yield callbacks.NoOpCallback()
        return
    with bar:
        yield bar


def _folder() -> Path:
    """The folder of the cache for weights, made. Raises UsageError where none can be."""
    failures = []
    for place in cache_dir.places("weights"):
        try:
            place.mkdir(parents=True, exist_ok=True)
            if os.access(place, os.W_OK):
                return place
            failures.append(f"{place} (it may not be written)")
        except OSError as error:
            failures.append(f"{place} ({reason(error)})")
    where = " or ".join(failures) or "the user's home (there is none)"
    raise UsageError(f"cannot keep weights in {where}; name another folder with KIT_CACHE")
