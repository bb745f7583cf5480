"""The format of the file that a link promises, and whether the bytes keep the promise."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from worker.core.errors import ArchiveFailed

SNIFFED_BYTES: Final = 1024
"""How many bytes of the beginning are checked."""

# A browser shows a body of these types as a page, whatever its first bytes.
_PAGES: Final = frozenset({"text/html", "application/xhtml+xml"})


@dataclass(frozen=True, slots=True)
class Format:
    """A format of files: its suffix, its media type, and how it begins."""

    ext: str
    media_type: str
    begins: re.Pattern[bytes]

    def check(self, content_type: str, beginning: bytes) -> None:
        """Raise ArchiveFailed if the bytes are of another format, or are served as a page.

        No other content type matters: servers say ``application/force-download``, or nothing.
        """
        declared, kind = content_type.partition(";")[0].strip().lower()[:80], self.ext[1:]
        if declared in _PAGES:
            raise ArchiveFailed(f"it is served as {declared!r}, not as {kind}")
        if not self.begins.match(beginning):
            why = f"it does not begin as {kind} files do (it is served as {declared!r})"
            raise ArchiveFailed(why)


_MP4: Final = rb".{4}ftyp"
# Layers II and III. The sync word alone would not do: a text in UTF-16 begins with it too.
_MPEG_AUDIO: Final = rb"ID3|\xff[\xe2-\xe5\xf2-\xf5\xfa-\xfd]"
_SVG: Final = rb"(?:\xef\xbb\xbf)?\s*(?:<(?:\?xml|!--|!DOCTYPE svg).{0,900}?)?<svg[\s>]"
_FORMATS: Final = {
    ext: Format(ext, media_type, re.compile(begins, re.DOTALL))
    for ext, media_type, begins in (
        (".mp3", "audio/mpeg", _MPEG_AUDIO),
        (".m4a", "audio/mp4", _MP4),
        (".wav", "audio/wav", rb"RIFF.{4}WAVE"),
        (".mid", "audio/midi", rb"MThd"),
        (".mp4", "video/mp4", _MP4),
        (".jpeg", "image/jpeg", rb"\xff\xd8\xff"),
        (".png", "image/png", rb"\x89PNG\r\n\x1a\n"),
        (".webp", "image/webp", rb"RIFF.{4}WEBP"),
        (".svg", "image/svg+xml", _SVG),
    )
}
_ALIASES: Final[Mapping[str, str]] = {".jpg": ".jpeg", ".midi": ".mid"}
# For a link whose suffix we do not know (provider-api-2.md §8: formats).
_BY_KIND: Final[Mapping[str, str]] = {
    "wav": ".wav", "midi": ".mid", "video": ".mp4", "image": ".jpeg", "m4a": ".m4a", "png": ".png",
}  # fmt: skip


def format_of(url: str, kind: str) -> Format:
    """Name the format that a link promises: by its suffix, else by the kind of the link."""
    suffix = PurePosixPath(re.split(r"[?#]", url)[0]).suffix.lower()
    suffix = _ALIASES.get(suffix, suffix)
    return _FORMATS.get(suffix) or _FORMATS[_BY_KIND.get(kind, ".mp3")]
