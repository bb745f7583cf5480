"""What kind of file a link promises, and whether the bytes keep the promise."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from worker.core.errors import ArchiveFailed

SNIFFED_BYTES: Final = 512
"""How much of the beginning tells what a file is."""

_UNSPECIFIC: Final = frozenset({"", "application/octet-stream", "binary/octet-stream"})


@dataclass(frozen=True, slots=True)
class Format:
    """A format of files: its suffix, the content types it comes under, and how it begins."""

    ext: str
    types: tuple[str, ...]
    begins: re.Pattern[bytes]

    def check(self, content_type: str, beginning: bytes) -> None:
        """Raise ArchiveFailed where a server says, or the bytes are, something else."""
        declared = content_type.partition(";")[0].strip().lower()
        if declared not in _UNSPECIFIC and not declared.startswith(self.types):
            raise ArchiveFailed(f"it is served as {declared[:80]!r}, not as {self.ext[1:]}")
        if not self.begins.match(beginning):
            raise ArchiveFailed(f"it does not begin as {self.ext[1:]} files do")


def _format(ext: str, begins: bytes, *types: str) -> Format:
    return Format(ext, types, re.compile(begins, re.DOTALL))


_MP4: Final = rb".{4}ftyp"
_FORMATS: Final = {
    each.ext: each
    for each in (
        _format(".mp3", rb"ID3|\xff[\xe0-\xff]", "audio/"),
        _format(".m4a", _MP4, "audio/", "video/mp4"),
        _format(".wav", rb"RIFF.{4}WAVE", "audio/"),
        _format(".mid", rb"MThd", "audio/", "application/x-midi"),
        _format(".mp4", _MP4, "video/", "audio/mp4"),
        _format(".jpeg", rb"\xff\xd8\xff", "image/"),
        _format(".png", rb"\x89PNG\r\n\x1a\n", "image/"),
        _format(".webp", rb"RIFF.{4}WEBP", "image/"),
        _format(".svg", rb"(?:\xef\xbb\xbf)?\s*<(?:\?xml|svg|!--)", "image/svg"),
    )
}
_ALIASES: Final[Mapping[str, str]] = {".jpg": ".jpeg", ".midi": ".mid"}
# Where the link has no suffix that we know (provider-api-2.md §8: formats).
_BY_KIND: Final[Mapping[str, str]] = {
    "wav": ".wav", "midi": ".mid", "video": ".mp4", "image": ".jpeg", "m4a": ".m4a", "png": ".png",
}  # fmt: skip


def format_of(url: str, kind: str) -> Format:
    """Name the format that a link promises: by its suffix, else by the kind of the link."""
    suffix = PurePosixPath(re.split(r"[?#]", url)[0]).suffix.lower()
    suffix = _ALIASES.get(suffix, suffix)
    return _FORMATS.get(suffix) or _FORMATS[_BY_KIND.get(kind, ".mp3")]
