"""Where archived files go: a folder of this machine, or any other place that fsspec reaches.

A file appears under its name whole, or not at all. Every failure is an ArchiveFailed.
"""

import contextlib
import fcntl
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import fsspec
from fsspec.implementations.local import LocalFileSystem

from worker.core.errors import ArchiveFailed, CallFailed, ConfigError

_CHUNK_BYTES: Final = 1024 * 1024


class Upload(ABC):
    """A file on its way: ``offset`` bytes of version ``validator`` came in an earlier run."""

    offset: int = 0
    validator: str = ""

    @abstractmethod
    def resume(self, offset: int, validator: str) -> Any:
        """Go on at an offset, or from the beginning; returns the hash of the bytes before it."""

    @abstractmethod
    def write(self, chunk: bytes) -> None:
        """Append."""

    @abstractmethod
    def commit(self) -> None:
        """Let the file appear under its name."""

    @abstractmethod
    def drop(self) -> None:
        """Forget the bytes that have come: they are no good."""

    @abstractmethod
    def close(self) -> None:
        """Release the file. The bytes that have come may stay for a later run."""


class Target(ABC):
    """The port to a place for files; names are the relative paths of ``core.archive.names``."""

    @abstractmethod
    def url(self, name: str) -> str:
        """Return the URL at which a file is, or would be."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Return the size of a file, or None."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """Return a small file, or None."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """Open a file to read from any place in it."""

    @abstractmethod
    def begin(self, name: str) -> Upload:
        """Begin to store a file, or go on with it."""

    def replace(self, name: str, content: bytes) -> None:
        """Store a small file, in place of another if there is one."""
        with self.upload(name) as upload:
            upload.resume(0, "")
            upload.write(content)
            upload.commit()

    @contextlib.contextmanager
    def upload(self, name: str) -> Iterator[Upload]:
        """Hold an upload. If it fails for good, nothing of it stays."""
        upload = self.begin(name)
        try:
            yield upload
        except CallFailed as error:
            if not error.retryable:
                upload.drop()
            raise
        finally:
            upload.close()


def open_target(url: str) -> Target:
    """Open an archive by its fsspec URL. Raises ConfigError."""
    try:
        fs, root = fsspec.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"FERMATA_ARCHIVE_URL: {error} (pip install '.[s3]' or '.[gcs]')"
        ) from None
    return Folder(Path(root)) if isinstance(fs, LocalFileSystem) else Remote(fs, root)


@contextlib.contextmanager
def _target_errors(name: str, does: str = "take") -> Iterator[None]:
    try:
        yield
    except CallFailed:
        raise
    # Every file system of fsspec has errors of its own. All are retryable: somebody may empty a
    # full disk, or raise a quota.
    except Exception as error:
        said = (error.strerror if isinstance(error, OSError) else "") or type(error).__name__
        why = f"the archive cannot {does} {name}: {said}"
        raise ArchiveFailed(why, {"retryable": True}) from error


class Folder(Target):
    """A folder of this machine. It resumes files, and follows no symbolic link out of itself."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def url(self, name: str) -> str:
        return f"file://{(self._root / name).absolute()}"

    def size(self, name: str) -> int | None:
        path = self._root / name
        with _target_errors(name):
            return path.stat().st_size if path.is_file() and not path.is_symlink() else None

    def read(self, name: str) -> bytes | None:
        with _target_errors(name):
            return self._inside(name).read_bytes() if self.size(name) is not None else None

    def open(self, name: str) -> BinaryIO:
        with _target_errors(name, "give"):
            # The file may have become a link since its size was read.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            return os.fdopen(os.open(self._inside(name), flags), "rb")

    def begin(self, name: str) -> Upload:
        with _target_errors(name):
            path = self._inside(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            return _Part(path)

    def _inside(self, name: str) -> Path:
        """Return the path of a file, whose folder may not be there yet."""
        path = self._root / name
        if not path.parent.resolve().is_relative_to(self._root.resolve()):
            raise ArchiveFailed(f"refused {name}: a link leads out of the archive there")
        return path


class _Part(Upload):
    """``.song.mp3.part``, and ``.song.mp3.part.version`` beside it.

    No archived file has such a name: ``core.archive.names`` strips leading dots.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.part")
        self._version = path.with_name(f".{path.name}.part.version")
        self._file = self._locked()
        if self._version.is_file() and not self._version.is_symlink():
            said = self._version.read_text("utf-8", errors="replace")
            # HTTP could not send a damaged validator: then the file begins anew.
            self.validator = said if said.isascii() and said.isprintable() else ""
            self.offset = os.fstat(self._file.fileno()).st_size if self.validator else 0

    def _locked(self) -> BinaryIO:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.fdopen(os.open(self._part, flags, 0o666), "r+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between our open and our lock, another run may have finished this file: then the name
            # is gone, or belongs to a new file, and our lock guards nothing.
            mine = os.path.samestat(os.fstat(file.fileno()), os.lstat(self._part))
        except OSError:
            mine = False
        if not mine:
            file.close()
            raise ArchiveFailed(f"another run stores {self._path.name}", {"retryable": True})
        return file

    def resume(self, offset: int, validator: str) -> Any:
        with _target_errors(self._path.name):
            self._file.truncate(offset)
            digest = hashlib.sha256()
            self._file.seek(0)
            while chunk := self._file.read(_CHUNK_BYTES):
                digest.update(chunk)
            # Truncated first: a death in between must not leave old bytes under a new version.
            self._version.unlink(missing_ok=True)
            if validator:
                self._version.write_text(validator, "utf-8")
            return digest

    def write(self, chunk: bytes) -> None:
        with _target_errors(self._path.name):
            self._file.write(chunk)

    def commit(self) -> None:
        with _target_errors(self._path.name):
            # On disk before it has its name: a power cut must not leave an empty song.
            self._file.flush()
            os.fsync(self._file.fileno())
            self._version.unlink(missing_ok=True)
            self._part.replace(self._path)

    def drop(self) -> None:
        self._version.unlink(missing_ok=True)
        self._part.unlink(missing_ok=True)

    def close(self) -> None:
        # If the disk is full, closing fails too: it writes the rest of the buffer.
        with _target_errors(self._path.name):
            self._file.close()


class Remote(Target):
    """An object store or a server. It cannot append to a file, so a broken one begins anew."""

    def __init__(self, fs: Any, root: str) -> None:
        self._fs = fs
        self._root = root.rstrip("/")

    def url(self, name: str) -> str:
        return str(self._fs.unstrip_protocol(self._path(name)))

    def size(self, name: str) -> int | None:
        with _target_errors(name):
            try:
                # fsspec caches listings, and another process may have stored the file since.
                self._fs.invalidate_cache()
                return int(self._fs.info(self._path(name))["size"])
            except FileNotFoundError:
                return None

    def read(self, name: str) -> bytes | None:
        with _target_errors(name):
            return self._fs.cat_file(self._path(name)) if self.size(name) is not None else None

    def open(self, name: str) -> BinaryIO:
        with _target_errors(name, "give"):
            file: BinaryIO = self._fs.open(self._path(name), "rb")
            return file

    def begin(self, name: str) -> Upload:
        return _Object(self._fs, self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


class _Object(Upload):
    def __init__(self, fs: Any, path: str) -> None:
        self._fs = fs
        self._path = path
        self._file: Any = None

    def resume(self, offset: int, validator: str) -> Any:
        with _target_errors(self._path):
            try:
                self._file = self._opened()
            except FileNotFoundError:
                # A server needs the folder first. An object store has no folders, and may deny the
                # rights that making one takes: so this is tried only if the open has failed.
                self._fs.makedirs(self._path.rpartition("/")[0], exist_ok=True)
                self._file = self._opened()
            return hashlib.sha256()

    def _opened(self) -> Any:
        # With autocommit, closing a file would make half of it appear.
        file = self._fs.open(self._path, "wb", autocommit=False)
        # fsspec notes a file without autocommit in a transaction. We never end that transaction, so
        # it would hold every file for ever.
        with contextlib.suppress(ValueError):
            self._fs.transaction.files.remove(file)
        return file

    def write(self, chunk: bytes) -> None:
        with _target_errors(self._path):
            self._file.write(chunk)

    def commit(self) -> None:
        with _target_errors(self._path):
            self._file.close()
            self._file.commit()
            self._file = None

    def drop(self) -> None:
        """Nothing stays in any case."""

    def close(self) -> None:
        if self._file is not None:
            with _target_errors(self._path):
                self._file.discard()
                # Its destructor would flush the rest of the buffer and so make the file appear.
                self._file.forced = True
                self._file = None
