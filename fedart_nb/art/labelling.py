"""What each picture is called: by a row of a table, by a text beside it, by its folder, or else by its file name."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from fedart_nb.art.captions import CAPTION_LIMIT, CaptionFrom, Record, caption_from_name, cleaned, says_nothing, tidied
from fedart_nb.art.encodings import twice_encoded
from fedart_nb.art.names import Names
from fedart_nb.art.problems import Problem, Unusable
from fedart_nb.art.sidecars import assigned, is_sidecar_name, read_sidecars
from fedart_nb.art.splits import class_of_folder
from fedart_nb.art.tables import TABLE_LIMIT_BYTES, TABLE_STEMS, is_table_name, read_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fedart_nb.art.problems import Kind
    from fedart_nb.art.sources import Source
    from fedart_nb.art.tables import Entry

__all__ = ["Label", "Labels"]

_LONG_WORDS = 60  # text encoders read about the first 75 words or word parts
_NO_PICTURE = ("readme", "license", "licence", "copying", "notice", "requirements", "changelog", "credits", "authors")


@dataclass(frozen=True, slots=True)
class Label:
    """One picture's caption, cleaned, where it came from, and what else a table says of the picture."""

    caption: str
    caption_from: CaptionFrom
    record: Record


@dataclass(slots=True)
class _Rows:
    """The rows of one table, by whether the picture that they name is here."""

    named: dict[str, tuple[int, Record]] = field(default_factory=dict)
    missing: list[tuple[int, str]] = field(default_factory=list)
    inexact: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    double: list[int] = field(default_factory=list)


class Labels:
    """The captions of a set, found in its tables and texts; `problems` says what could not be understood.

    `keys` are all pictures that a table or text may mean, also those that are not read (a set can be too large).
    """

    def __init__(self, sources: Sequence[Source], keys: Sequence[str], *, given: bool = False) -> None:
        self.problems: list[Problem] = []
        self._names = Names(keys)
        self._records: dict[str, tuple[Record, str]] = {}  # picture -> what a table says, and the table's name
        self._scopes: list[tuple[str, str]] = []  # tables that name pictures: their folder, their name
        self._shown = {source.key: source.name for source in sources}
        self._texts, orphans = assigned(keys, (source for source in sources if is_sidecar_name(source.key)))
        beside = {id(text) for texts in self._texts.values() for text in texts}
        tables = [s for s in sources if is_table_name(s.key) and id(s) not in beside]
        tables.sort(key=lambda s: (PurePosixPath(s.key.lower()).stem != "metadata", s.key))
        for table in tables:
            self._read(table, given=given)
        self._tell_orphans([s for s in orphans if not is_table_name(s.key)])

    @property
    def keys(self) -> set[str]:
        """Pictures of which a table or a text says something."""
        return {*self._records, *self._texts}

    def of(self, keys: Iterable[str]) -> dict[str, Label]:
        """The labels of these pictures; only their texts are read, and only their faults are told."""
        wanted = list(keys)
        texts, found = read_sidecars({key: self._texts[key] for key in wanted if key in self._texts})
        self.problems += found
        labels: dict[str, Label] = {}
        fallen: dict[str, list[str]] = defaultdict(list)
        for key in wanted:
            record, table = self._records.get(key, (Record(), ""))
            label = self._label(key, record, table, texts.get(key, ("", None))[0])
            labels[key] = label
            if label.caption_from in {"folder name", "file name"}:
                fallen[label.caption_from].append(key)
        self._tell_fallen(fallen)
        return labels

    def _read(self, source: Source, *, given: bool) -> None:
        parent = str(PurePosixPath(source.key).parent)
        parent = "" if parent == "." else parent
        try:
            data = source.read(TABLE_LIMIT_BYTES)
        except Unusable as error:
            self.problems.append(Problem(source.name, error.reason, "metadata", todo=error.todo))
            return
        entries, problems = read_table(source.key, data, is_picture=lambda text: self._names.has(text, parent))
        rows = self._sorted(entries, parent)
        named = rows.named
        is_known = PurePosixPath(source.key.lower()).stem in TABLE_STEMS
        if not named and not is_known and not (given and entries):
            return  # some other file: a program's settings, a list of something else
        self.problems += [Problem(source.name, p.reason, p.kind, p.rows, p.todo) for p in problems]
        self._tell_rows(source.name, rows)
        if named:
            self._scopes.append((parent, source.name))
        empty = [number for number, record in named.values() if not record.caption]
        if empty and len(empty) < len(named):
            reason = "no caption; a text beside the picture or its name is the caption"
            self.problems.append(Problem(source.name, reason, "caption", tuple(empty), "Write one, or leave it so"))
        for key, (number, record) in named.items():
            earlier = self._records.get(key)
            if earlier is None:
                self._records[key] = (record, source.name)
            elif record.caption and record.caption != earlier[0].caption:
                reason = f"{earlier[1]!r} has another caption of the same picture, which was taken"
                self.problems.append(Problem(source.name, reason, "caption", (number,), "Keep one of the two"))

    def _sorted(self, entries: list[Entry], parent: str) -> _Rows:
        """Which row means which picture."""
        rows = _Rows()
        for entry in entries:
            match = self._names.find(entry.file, parent)
            if match is None and self._names.several(entry.file):
                rows.inexact["several"].append(entry.number)
            elif match is None:
                rows.missing.append((entry.number, cleaned(entry.file, limit=80)[0]))
            elif match.key not in rows.named:
                rows.named[match.key] = (entry.number, entry.record)
                if match.how != "name":
                    rows.inexact[match.how].append(entry.number)
            elif entry.record not in (rows.named[match.key][1], Record()):
                rows.double += [] if rows.double else [rows.named[match.key][0]]
                rows.double.append(entry.number)
        return rows

    def _tell_rows(self, name: str, found: _Rows) -> None:
        missing, inexact, double = found.missing, found.inexact, found.double

        def tell(reason: str, rows: list[int], todo: str) -> None:
            self.problems.append(Problem(name, reason, "metadata", tuple(rows), todo))

        if missing:
            rows = [number for number, _ in missing]
            tell(
                f"it names {_pictures(len(missing), 'that is', 'that are')} not here, such as {missing[0][1]!r}",
                rows,
                "Add the pictures, or correct the names",
            )
        if rows := inexact.get("elsewhere", []):
            tell("the picture lies in another folder than the row says", rows, "Correct file_name if this is wrong")
        if rows := inexact.get("several", []):
            tell("several pictures have this name", rows, "Write the folder before the name, such as cats/1.png")
        if rows := inexact.get("ending", []):
            tell("the picture has another ending than the row says", rows, "Correct file_name if this is wrong")
        if double:
            tell("several rows name the same picture; the first one was taken", double, "Keep one row for each")

    def _label(self, key: str, record: Record, table: str, beside: str) -> Label:
        name = self._shown.get(key, PurePosixPath(key).name)
        text, origin = record.caption, "table"
        if text and beside.strip() and " ".join(text.split()) != " ".join(beside.split()):
            reason = f"{table!r} and the text beside it differ; the table's caption was taken"
            self.problems.append(Problem(name, reason, "caption", todo="Keep one of the two"))
        if not text:
            text, origin = beside, "text file"
        done = tidied(text or "")
        if done.text:
            self._tell_caption(name, text or "", done.shortened, done.removed)
            if done.lines > 1 and origin == "text file":
                reason = f"the {done.lines} lines of its text were joined into one caption"
                self.problems.append(Problem(name, reason, "caption", todo="Keep one line if they are alternatives"))
            return Label(done.text, "table" if origin == "table" else "text file", record)
        if text and text.strip():
            self._tell_caption(name, text, shortened=False, removed=done.removed)
        folder = class_of_folder(key) if says_nothing(key) else None
        done = tidied(folder or caption_from_name(key))
        if done.shortened:
            self._tell_caption(name, folder or key, shortened=True, removed=0)
        return Label(done.text, "folder name" if folder else "file name", record)

    def _tell_caption(self, name: str, text: str, shortened: bool, removed: int) -> None:
        def tell(reason: str, todo: str) -> None:
            self.problems.append(Problem(name, reason, "caption", todo=todo))

        if shortened:
            tell(
                f"its caption of {len(text):,} characters was shortened to {CAPTION_LIMIT}",
                "Say what matters in fewer words",
            )
        elif (words := len(text.split())) > _LONG_WORDS:
            tell(f"its caption has {words} words; text encoders read about the first 75", "Put what matters first")
        if removed:
            what = f"{removed} control character{'s were' if removed > 1 else ' was'}"
            tell(f"{what} taken out of its caption", "Check the text")
        if meant := twice_encoded(text):
            tell(f"its letters look garbled; perhaps “{meant[:60]}” is meant", "Write it again, and save it as UTF-8")
        if "\ufffd" in text:
            tell("letters of its caption were damaged before it came here (�)", "Write it again")

    def _tell_fallen(self, fallen: dict[str, list[str]]) -> None:
        """Pictures without a caption, where others have one; folders' names that were taken for captions."""
        if by_folder := fallen.get("folder name"):
            example = f"{self._name(by_folder[0])}: “{class_of_folder(by_folder[0])}”"
            reason = f"the folder's name is the caption of {_pictures(len(by_folder))}, such as {example}"
            self.problems.append(
                Problem(self._name(by_folder[0]), reason, "caption", todo="Write captions of your own")
            )
        alone = fallen.get("file name", [])
        for parent, table in self._scopes:
            inside = [k for k in alone if k not in self._records and (not parent or k.startswith(parent + "/"))]
            if inside:
                shown = ", ".join(repr(self._name(key)) for key in inside[:3])
                have = _pictures(len(inside), "has", "have")
                reason = f"{have} no row in it, such as {shown}; the file name is the caption"
                self.problems.append(Problem(table, reason, "caption", todo="Add a row for each"))
                alone = [key for key in alone if key not in set(inside)]
        without = [key for key in alone if key not in self._texts and key not in self._records]
        if self._texts and without:
            shown = ", ".join(repr(self._name(key)) for key in without[:3])
            have = _pictures(len(without), "has", "have")
            reason = f"{have} no caption in a text or table, such as {shown}; the file name is one"
            self._add(without[0], reason, "caption", "Write a .txt file for each")
        nameless = [key for key in alone if not any(c.isalnum() for c in caption_from_name(key))]
        if nameless:
            self._add(
                nameless[0],
                f"{_pictures(len(nameless), 'has', 'have')} no caption at all",
                "caption",
                "Write a .txt file",
            )

    def _tell_orphans(self, orphans: list[Source]) -> None:
        texts = [s for s in orphans if not PurePosixPath(s.key.lower()).stem.startswith(_NO_PICTURE)]
        if texts:
            more = f", as {len(texts) - 1} other text(s)" if len(texts) > 1 else ""
            reason = f"it belongs to no picture here{more}"
            self._add(texts[0].key, reason, "metadata", "Give it the picture's name: cat.jpg and cat.txt")

    def _add(self, key: str, reason: str, kind: Kind, todo: str) -> None:
        self.problems.append(Problem(self._name(key), reason, kind, todo=todo))

    def _name(self, key: str) -> str:
        return self._shown.get(key, PurePosixPath(key).name)


def _pictures(count: int, one: str = "", many: str = "") -> str:
    return f"1 picture {one}".rstrip() if count == 1 else f"{count} pictures {many}".rstrip()
