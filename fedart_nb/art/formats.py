"""Which kind of file this is, by its first bytes and by its ending, and what to do with kinds that are not read."""

from __future__ import annotations

from pathlib import PurePosixPath

__all__ = [
    "ACCEPTED",
    "PICTURE_SUFFIXES",
    "advice_for",
    "content_of",
    "format_of",
    "is_side_file",
    "looks_like_picture",
    "suffix_of",
]

ACCEPTED = "JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF and HEIC"
PICTURE_SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".jif",
        ".jfi",
        ".pjpeg",
        ".pjp",
        ".png",
        ".apng",
        ".webp",
        ".gif",
        ".tif",
        ".tiff",
        ".bmp",
        ".dib",
        ".avif",
        ".avifs",
        ".heic",
        ".heif",
        ".heics",
        ".heifs",
        ".hif",
    ]
)

_HEIF_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevx", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})

_FLATTEN = "Open it in the program that made it, and export it as PNG"
_DRAWING = "Open it in a drawing program or browser, and export it as PNG"
_RAW = "Develop it in your camera's or photo program, and export it as JPEG or PNG"
_UNPACK = "Unpack it, and give the folder or the files in it"
_FRAMES = "Save the pictures that you want from it as PNG"
_SHEET = "Save it as CSV (UTF-8) with the columns file_name and caption"
_COLUMNS = 'Write it as a table: pandas.read_parquet(name).to_csv("metadata.csv", index=False)'
_TEXT = "Save the caption as plain text in a .txt file of the same name"
_AGAIN = "Save it as PNG"

#: Endings that are not read, what they are, and what to do.
_OTHERS: dict[str, tuple[str, str]] = {
    **dict.fromkeys((".psd", ".psb"), ("a Photoshop file", _FLATTEN)),
    **dict.fromkeys(
        (".xcf", ".kra", ".ora", ".clip", ".procreate", ".sai", ".sai2", ".mdp", ".afphoto", ".afdesign"),
        ("a drawing program's own file", _FLATTEN),
    ),
    **dict.fromkeys((".svg", ".svgz", ".ai", ".eps", ".cdr", ".wmf", ".emf"), ("a vector drawing", _DRAWING)),
    **dict.fromkeys((".pdf",), ("a PDF document", _DRAWING)),
    **dict.fromkeys(
        (
            *(".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".raf", ".orf", ".rw2", ".pef"),
            *(".srw", ".x3f", ".raw", ".3fr", ".iiq", ".erf", ".mrw", ".kdc"),
        ),
        ("a camera's raw file", _RAW),
    ),
    **dict.fromkeys((".tga", ".jxl", ".jp2", ".j2k", ".jpx", ".jxr", ".ico", ".icns", ".cur"), ("not read", _AGAIN)),
    **dict.fromkeys((".exr", ".hdr", ".pcx", ".ppm", ".pgm", ".pbm", ".pnm", ".qoi", ".dds"), ("not read", _AGAIN)),
    **dict.fromkeys((".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".wmv"), ("a film", _FRAMES)),
    **dict.fromkeys((".pptx", ".ppt", ".odp", ".key", ".pages", ".indd"), ("a document", _FRAMES)),
    **dict.fromkeys((".zip", ".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".cbz"), ("an archive", _UNPACK)),
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods", ".numbers"), ("a spreadsheet", _SHEET)),
    **dict.fromkeys((".parquet", ".arrow", ".feather"), ("a table of another kind", _COLUMNS)),
    **dict.fromkeys((".doc", ".docx", ".odt", ".rtf"), ("a text document", _TEXT)),
    ".icloud": ("a picture that is still in iCloud", "Download it to this computer first"),
}

#: First bytes that tell what a file with a picture's name really is.
_CONTENTS: tuple[tuple[bytes, str, str], ...] = (
    (b"8BPS", "a Photoshop file", _FLATTEN),
    (b"%PDF", "a PDF document", _DRAWING),
    (b"%!PS", "a PostScript drawing", _DRAWING),
    (b"<svg", "an SVG drawing", _DRAWING),
    (b"PK\x03\x04", "a zip archive (or a document that is one inside)", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"\x1f\x8b", "a gzip archive", _UNPACK),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture", _AGAIN),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture", _AGAIN),
    (b"\xff\x0a", "a JPEG XL picture", _AGAIN),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture", _AGAIN),
    (b"\x00\x00\x01\x00", "an icon file", _AGAIN),
    (b"version https://git-lfs", "a Git LFS pointer, not the picture itself", "Fetch the pictures with: git lfs pull"),
    (b"\x00\x05\x16\x07", "macOS information about a file, not the picture itself", "Copy the picture itself"),
    (b"<!doctype", "a web page", "Open the picture itself in the browser, and save that"),
    (b"<html", "a web page", "Open the picture itself in the browser, and save that"),
)


def suffix_of(name: str) -> str:
    """Lower-case ending of a file name, with its dot."""
    return PurePosixPath(name.rstrip(" ")).suffix.lower()


def is_side_file(name: str) -> bool:
    """Whether an operating system put this file beside people's own: it is no picture, whatever it is called."""
    base = PurePosixPath(name).name
    return base.startswith("._") or base.lower() in {".ds_store", "thumbs.db", "desktop.ini", "ehthumbs.db"}


def advice_for(name: str) -> tuple[str, str] | None:
    """What a file with this ending is and what to do with it, where its kind is not read.

    >>> advice_for("cat.CR2")
    ("a camera's raw file", "Develop it in your camera's or photo program, and export it as JPEG or PNG")
    """
    return _OTHERS.get(suffix_of(name))


def format_of(data: bytes) -> str | None:
    """Say "JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF" or "HEIF" by the first bytes (names lie), else None."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if data[4:8] == b"ftyp":
        end = min(max(16, int.from_bytes(data[:4], "big")), 256)
        brands = {data[8:12], *(data[i : i + 4] for i in range(16, end, 4))}
        if brands & _AVIF_BRANDS and not brands & (_HEIF_BRANDS - {b"mif1", b"msf1"}):
            return "AVIF"
        if brands & _HEIF_BRANDS:
            return "HEIF"
    return None


def looks_like_picture(head: bytes) -> bool:
    """Whether a file that begins so (64 bytes are enough) is a picture of an accepted kind."""
    return format_of(head) is not None


def content_of(data: bytes) -> tuple[str, str]:
    """What bytes are that are no accepted picture, in words, and what to do.

    >>> content_of(b"%PDF-1.7")[0]
    'its content is a PDF document'
    """
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
    for magic, what, todo in _CONTENTS:
        if data.startswith(magic) or head[: len(magic)].lower() == magic:
            return f"its content is {what}", todo
    if head.startswith(b"<?xml") and b"<svg" in data[:4096]:
        return "its content is an SVG drawing", _DRAWING
    if not any(data[:4096]):
        return "its content is zeros only: it was not copied or downloaded to its end", "Copy it again"
    return f"its content is no {ACCEPTED.replace(' and ', ' or ')} picture, whatever its name says", _AGAIN
