"""Names of archived files: a template filled with fields, whose values cannot leave its folder."""

import hashlib
import re
import string
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import quote

FIELDS: Final = ("job_id", "operation", "clip_id", "kind", "title", "date", "ext")
DEFAULT_TEMPLATE: Final = "{job_id}/{clip_id}-{kind}{ext}"
LIMIT_BYTES: Final = 180
"""The longest segment. File systems take 255 bytes, and a partial file's suffix comes on top."""

_FORBIDDEN: Final = re.compile(r'[<>:"/\\|?*]')
_CONTROLS: Final = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_RESERVED: Final = re.compile(r"(?:con|prn|aux|nul|(?:com|lpt)[0-9¹²³])(?:\..*)?", re.IGNORECASE)
"""Names of devices on Windows; a suffix does not change that."""


def check_template(template: str) -> None:
    """Raise ValueError, with the reason, if a template cannot be used."""
    for literal, name, spec, conversion in string.Formatter().parse(template):
        if name is not None and (name not in FIELDS or spec or conversion):
            raise ValueError(f"{{{name}}} is none of {', '.join(FIELDS)}.")
        if any(each != _clean(each) for each in re.split("/", literal)):
            raise ValueError("It holds a character that is unsafe in a file name.")
    segments = template.split("/")
    # With other text in its segment, as in {job_id}-{clip_id}, two jobs could get the same name.
    if "{job_id}" not in segments[:-1]:
        raise ValueError("A folder must be {job_id} alone: two jobs must not write the same file.")
    if any(_segment(each) != each for each in segments):
        raise ValueError("It must be a relative path without empty parts, `.` and `..`.")


def render(template: str, fields: Mapping[str, str]) -> str:
    """Name a file: no value adds a segment, and every segment is harmless."""
    pieces = {name: _clean(value) for name, value in fields.items()}
    pieces["job_id"] = job_folder(fields["job_id"])
    return "/".join(_segment(each) for each in template.format(**pieces).split("/"))


def file_name(*words: str, ext: str) -> str:
    """Name a file for a person, by words that are each said once: ``Take 1 wav.wav``."""
    said = dict.fromkeys(each for word in words if (each := _clean(word).strip()))
    return _segment(" ".join(said) + _clean(ext))


def job_folder(job_id: str) -> str:
    """Spell a job id as a harmless segment; two ids never share one."""
    # Escaped, not replaced: that keeps two ids apart. Windows drops dots at the end.
    spelled = quote(job_id, safe="~")
    stem = spelled.rstrip(".")
    return _segment(stem + "%2E" * (len(spelled) - len(stem)))


def unique(names: Iterable[str], taken: Iterable[str] = ()) -> Iterator[str]:
    """Number repeated names: ``song.mp3``, ``song-2.mp3``."""
    # Some file systems take names that differ only in case for one.
    seen = {name.casefold() for name in taken}
    for name in names:
        chosen, number = name, 1
        while chosen.casefold() in seen:
            number += 1
            chosen = _before_suffix(name, f"-{number}")
        seen.add(chosen.casefold())
        yield chosen


def _clean(text: str) -> str:
    normal = unicodedata.normalize("NFC", text)
    return _FORBIDDEN.sub("_", "".join(map(_shown, normal)))


def _shown(char: str) -> str:
    category = unicodedata.category(char)
    # Unicode has 17 kinds of space. At the end of a name nobody sees them: make each an ASCII one,
    # which _segment strips.
    return "_" if category in _CONTROLS else " " if category == "Zs" else char


def _segment(text: str) -> str:
    # Windows drops dots and spaces at the end. Dots at the beginning hide a file, or climb to the
    # folder above.
    stripped = text.lstrip(". ").rstrip(". ") or "_"
    harmless = f"_{stripped}" if _RESERVED.fullmatch(stripped) else stripped
    if len(harmless.encode()) <= LIMIT_BYTES:
        return harmless
    return _shortened(harmless)


def _shortened(segment: str) -> str:
    digest = hashlib.sha256(segment.encode()).hexdigest()[:12]
    stem, dot, suffix = segment.rpartition(".")
    tail = f"-{digest}.{suffix}" if dot and len(suffix) <= 5 and suffix.isascii() else f"-{digest}"
    head = (stem if dot else segment).encode()[: LIMIT_BYTES - len(tail)]
    return head.decode(errors="ignore") + tail


def _before_suffix(name: str, number: str) -> str:
    folder, slash, last = name.rpartition("/")
    stem, dot, suffix = last.rpartition(".")
    return folder + slash + (f"{stem}{number}.{suffix}" if dot else last + number)
