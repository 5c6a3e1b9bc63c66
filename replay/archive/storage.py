"""Where an archive lies: in a folder of this machine, or in an object store that fsspec knows by its URL."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from fcntl import LOCK_EX, LOCK_NB, flock
from math import inf
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from pyarrow.fs import (
    FileSystem,
    FSSpecHandler,
    LocalFileSystem,
    PyFileSystem,
    SubTreeFileSystem,
)

from replay.extras import missing_extra

MANIFEST_NAME = "meterwatch-archive.json"  # in a folder
MANIFEST_FOLDER = "meterwatch-archive"  # in an object store: a manifest a commit
LOCK_NAME = "archive.lock"
KEPT_MANIFESTS = 8  # of the last commits, for those who list them meanwhile
LISTING_ATTEMPTS = 5  # to read a manifest that is listed and removed meanwhile
URL_FORM = re.compile(r"[a-z][a-z0-9+.-]+://")
# Each read of a file is one request for what it needs, and lists are those of now.
S3_OPTIONS = {"default_cache_type": "none"}
STORE_OPTIONS = {"use_listings_cache": False}


class ArchiveError(ValueError):
    """An archive cannot be written or read; says why and what to do."""


class Storage(Protocol):
    """The files of an archive by their names, and the manifest of its last commit."""

    name: str
    files: FileSystem  # whose paths are names within the archive
    has_lock: bool  # False if writers keep each other away by their commits alone

    def claimed(self) -> AbstractContextManager[None]:
        """Makes the place, and keeps other writers away as far as it can. Raises ArchiveError."""

    def manifest(self) -> bytes | None:
        """The manifest of the last commit; None if there is none. Raises ArchiveError."""

    def publish(self, number: int, manifest: bytes) -> None:
        """Makes a manifest the last one, at once. Raises ArchiveError if another writer was faster."""

    def read(self, name: str) -> bytes:
        """The content of a file. Raises OSError."""

    def write(self, name: str, content: bytes) -> None:
        """Writes a whole file, which lasts when this returns."""

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""

    def names(self) -> set[str]:
        """The names of all files but manifests and locks."""

    def free_bytes(self) -> float:
        """The space that is left; infinite if nobody knows."""


def is_url(path: str | Path) -> bool:
    """True if a path is a URL.

    >>> is_url("s3://bucket/kept"), is_url("kept"), is_url("town:300x6")
    (True, False, False)
    """
    return isinstance(path, str) and URL_FORM.match(path) is not None


def storage_of(path: str | Path) -> Storage:
    """The storage of a folder or URL. Raises ArchiveError if nothing here reads such a URL."""
    if not is_url(path):
        return LocalFolder(Path(path))
    parts = urlsplit(str(path))
    if parts.scheme == "file":
        return LocalFolder(Path(unquote(parts.path)))
    return ObjectFolder(str(path))


class LocalFolder:
    """An archive in a folder: a manifest is renamed into place, and a lock keeps other writers away."""

    has_lock = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)
        self.files = SubTreeFileSystem(str(folder.absolute()), LocalFileSystem())

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Makes the folder and locks it. Raises ArchiveError if another process has the lock."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOCK_NAME).open("wb") as lock:
            try:
                flock(lock, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                raise ArchiveError(
                    f"another process writes to {self.name}: wait for its end"
                ) from None
            yield

    def manifest(self) -> bytes | None:
        """The manifest of the last commit; None if there is none."""
        try:
            return (self.folder / MANIFEST_NAME).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ArchiveError(f"{self.name} cannot be read: {error}") from None

    def publish(self, number: int, manifest: bytes) -> None:
        """Renames a manifest into the place of the last one, so a reader sees one or the other."""
        fresh = self.folder / f"{MANIFEST_NAME}.new"
        with _written(fresh):
            fresh.write_bytes(manifest)
            _sync(fresh)
            fresh.replace(self.folder / MANIFEST_NAME)
            _sync(self.folder)

    def read(self, name: str) -> bytes:
        """The content of a file."""
        return (self.folder / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """Writes a file and waits until it is on the disk."""
        path = self.folder / name
        with _written(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            _sync(path)
            _sync(path.parent)

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        (self.folder / name).unlink(missing_ok=True)

    def names(self) -> set[str]:
        """The names of all files but manifests and the lock."""
        found = {
            path.relative_to(self.folder).as_posix()
            for path in self.folder.rglob("*")
            if not path.is_dir()
        }
        return found - {LOCK_NAME, MANIFEST_NAME, f"{MANIFEST_NAME}.new"}

    def free_bytes(self) -> float:
        """The space that is left on the folder's disk."""
        return shutil.disk_usage(self.folder).free


class ObjectFolder:
    """An archive in an object store, where nothing can be renamed.

    A commit is one object, its manifest, which is created only if there is none of its number. So of two writers with
    the same last commit one succeeds, and the other ends.
    """

    has_lock = False

    def __init__(self, url: str) -> None:
        self.name = url
        try:
            self._store, self._root = _opened(url)
        except (ImportError, ValueError) as error:
            needed = missing_extra(error.__cause__ or error) or error
            raise ArchiveError(f"{url} cannot be opened: {needed}") from None
        self.files = SubTreeFileSystem(
            self._root, PyFileSystem(FSSpecHandler(self._store))
        )

    def claimed(self) -> AbstractContextManager[None]:
        """Nothing: the first commit of a writer claims the archive."""
        return nullcontext()

    def manifest(self) -> bytes | None:
        """The manifest of the highest number; None if there is none. Raises ArchiveError."""
        with _reached(self.name):
            for _ in range(LISTING_ATTEMPTS):
                numbers = self._numbers()
                if not numbers:
                    return None
                try:
                    newest = self._manifest(numbers[-1])
                    return bytes(self._store.cat_file(newest))
                except FileNotFoundError:
                    continue  # a writer has made many commits since
        raise ArchiveError(f"the manifest of {self.name} cannot be read: try again")

    def publish(self, number: int, manifest: bytes) -> None:
        """Creates the manifest of a commit. Raises ArchiveError if a writer has made that commit or a later one."""
        with _reached(self.name):
            try:
                self._store.pipe_file(self._manifest(number), manifest, mode="create")
            except FileExistsError:
                raise self._taken_over() from None
            numbers = self._numbers()
            if numbers[-1] != number:
                raise self._taken_over()
            for old in numbers[:-KEPT_MANIFESTS]:
                self._store.rm_file(self._manifest(old))

    def read(self, name: str) -> bytes:
        """The content of a file."""
        return bytes(self._store.cat_file(f"{self._root}/{name}"))

    def write(self, name: str, content: bytes) -> None:
        """Puts a file as one object."""
        with _reached(self.name):
            self._store.pipe_file(f"{self._root}/{name}", content)

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        with _reached(self.name):
            try:
                self._store.rm_file(f"{self._root}/{name}")
            except FileNotFoundError:
                return

    def names(self) -> set[str]:
        """The names of all files but manifests."""
        with _reached(self.name):
            found = self._listed("")
        return {name for name in found if not name.startswith(f"{MANIFEST_FOLDER}/")}

    def free_bytes(self) -> float:
        """Infinite: a store does not say."""
        return inf

    def _manifest(self, number: int) -> str:
        """The path of the manifest of a commit."""
        return f"{self._root}/{MANIFEST_FOLDER}/{number:012}.json"

    def _numbers(self) -> list[int]:
        """The numbers of the commits whose manifests are there, in order."""
        names = (Path(name) for name in self._listed(f"/{MANIFEST_FOLDER}"))
        return sorted(int(name.stem) for name in names if name.stem.isdecimal())

    def _listed(self, within: str) -> list[str]:
        """The names of the objects below a folder."""
        found = self._store.find(self._root + within)
        return [path.removeprefix(f"{self._root}/") for path in found]

    def _taken_over(self) -> ArchiveError:
        """The error of a writer that is no longer the last to have opened the archive."""
        return ArchiveError(
            f"another process has opened {self.name} to write since: let one process write to an archive"
        )


def _opened(url: str) -> tuple[Any, str]:
    """The store of a URL, and its path there. Raises ImportError and ValueError."""
    from fsspec.core import url_to_fs  # noqa: PLC0415 - an extra

    scheme = urlsplit(url).scheme
    options = STORE_OPTIONS | (S3_OPTIONS if scheme in {"s3", "s3a"} else {})
    store, root = url_to_fs(url, **options)
    return store, root.rstrip("/")


@contextmanager
def _reached(name: str) -> Iterator[None]:
    """Raises ArchiveError for an error of a store's client, which may be of any type."""
    try:
        yield
    except ArchiveError:
        raise
    except Exception as error:
        raise ArchiveError(f"{name} does not answer as it should: {error}") from error


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """Raises ArchiveError for a file that the disk does not take."""
    try:
        yield
    except OSError as error:
        raise ArchiveError(
            f"{path} cannot be written: {error.strerror}; nothing is lost while the brokers keep the records: "
            "start again once it can"
        ) from error


def _sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
