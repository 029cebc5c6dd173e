"""Write the sample art that ships with the package from a folder of rendered pictures and their metadata.csv.

    python recipes/art/make_samples.py --source FOLDER --target fedart_nb/art/samples

FOLDER holds metadata.csv (file, caption, artist, licence, source, concept, tags, split) and one folder an artist.
Pictures are copied as they are (lossless WebP, 128 × 128). A second picture with the same pixels is left out.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import shutil
from collections import defaultdict
from pathlib import Path

from PIL import Image

CHANGES = "Rendered from SVG, cropped to its content, letterboxed and resized to 128 × 128 pixels, lossless WebP."
LEGAL_CODE = {
    "CC-BY-3.0": ("Creative Commons Attribution 3.0 Unported", "https://creativecommons.org/licenses/by/3.0/legalcode"),
    "CC-BY-4.0": (
        "Creative Commons Attribution 4.0 International",
        "https://creativecommons.org/licenses/by/4.0/legalcode",
    ),
    "CC-BY-SA-4.0": (
        "Creative Commons Attribution-ShareAlike 4.0 International",
        "https://creativecommons.org/licenses/by-sa/4.0/legalcode",
    ),
    "CC0-1.0": ("Creative Commons Zero 1.0 Universal", "https://creativecommons.org/publicdomain/zero/1.0/legalcode"),
}
PDDC = """Creative Commons Public Domain Dedication (SPDX: CC-PDDC)

The Open Clip Art Library accepted only drawings whose author gave up all rights in them. Each source file carries the
Creative Commons "PublicDomain" mark in its metadata. The drawings may be copied, changed, distributed and performed,
for any purpose, commercial or not, without asking. Naming the author is not required; it is done here with thanks.
"""
MIT = """MIT License

Copyright (c) Microsoft Corporation.

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""
SHARE_ALIKE = """SHARE-ALIKE APPLIES TO THIS FOLDER. Who publishes these pictures, or pictures adapted from them,
must do so under CC-BY-SA-4.0 (or a compatible licence) and name the author. The rest of the package is not
affected: this folder is a separate work beside it, and this art is not part of the training of the embedded
backbone.
"""

# name -> title (what it looks like), artist, SPDX licence
ARTISTS = {
    "fluent3d": ("Soft airbrushed emoji without outlines", "Microsoft (Fluent Emoji)", "MIT"),
    "fluent_ink": ("Emoji in heavy black ink", "Microsoft (Fluent Emoji High Contrast)", "MIT"),
    "freehand": ("Wobbly marker, black and one blue", "Streamline (Freehand)", "CC-BY-4.0"),
    "gameicons": ("White stencils on black", "Lorc, Delapouite and contributors (game-icons)", "CC-BY-3.0"),
    "gerald_ink": ("Thin-line ink drawings of food and animals", "Gerald G. (Open Clip Art Library)", "CC-PDDC"),
    "lorelei": ("Brush-and-ink heads, black and white", "Lisa Wischofsky (Lorelei, by DiceBear)", "CC0-1.0"),
    "open_peeps": ("Hand-drawn people, black ink, flat colour", "Pablo Stanley (Open Peeps, by DiceBear)", "CC0-1.0"),
    "openmoji": ("Thick black outlines, flat colours", "OpenMoji, HfG Schwäbisch Gmünd", "CC-BY-SA-4.0"),
    "pixel_art": ("Pixel heads on a 16 × 16 grid", "DiceBear (Pixel Art)", "CC0-1.0"),
    "rollandin": (
        "Comic clip art, saturated, with broken ink outlines",
        "Architetto Francesco Rollandin (Open Clip Art Library)",
        "CC-PDDC",
    ),
}

# Left out after looking at every picture on contact sheets.
DROPPED = {
    "freehand/bluetooth-transfer.webp": "a trade mark",
    "freehand/earpods-charge.webp": "a brand's product",
    "freehand/famous-character-starwars-r2d2.webp": "a film character",
    "freehand/graphic-tablet-intous-draw.webp": "a brand's product",
    "freehand/ipod-player.webp": "a brand's product",
    "freehand/mobilephone-action-blutooth.webp": "a trade mark",
    "freehand/modern-camera-go-pro.webp": "a brand's product",
    "freehand/programming-language-html-5.webp": "a logo",
    "freehand/video-game-hatchi.webp": "a brand's product",
    "freehand/video-game-tetris.webp": "a brand's game",
    "freehand/vintage-camera-polaroid.webp": "a brand's product",
    "gameicons/bat.webp": "close to the emblem of a comic hero",
    "gameicons/european-flag.webp": "an official emblem",
    "gameicons/light-sabers.webp": "weapons of a film series",
    "gerald_ink/geography_magelan_handheld_gps_ger_01.webp": "a brand's product",
    "rollandin/computer_hardware_schermo_macintosh_archit_01.webp": "a brand's product with its logo",
    "rollandin/people_yoga_architetto_francesc_01.webp": "traced from a photograph of a person",
    "rollandin/unsorted_principessa.webp": "a portrait that looks traced from a photograph of a person",
}

# Captions that do not say what the picture shows.
CAPTIONS = {
    "gerald_ink/tools_blacksmith_anvil_ganson.webp": "an anvil",
    "gerald_ink/buildings_us_capitol_building_cli_01.webp": "us capitol building",
    "rollandin/animals_birds_pollo_architetto_frances_01.webp": "a turkey",
    "rollandin/animals_mammals_stambecco_valdostano_arc_01.webp": "a stag at sunset",
    "rollandin/office_liberty_architetto_franc_01.webp": "an art nouveau lamp",
    "rollandin/people_sport_architetto_frances_01.webp": "a cheering woman",
    "rollandin/recreation_sports_sport_aerobica.webp": "a man exercising",
    "rollandin/science_medicine_medicina_dottore_archite_01.webp": "bottles of vitamins",
    "rollandin/unsorted_Cornetto.webp": "a smiling croissant",
    "rollandin/unsorted_ape_miele.webp": "bees on a honeycomb",
    "rollandin/unsorted_griglia_architetto_franc_01.webp": "a table grid",
    "rollandin/unsorted_set_gatti.webp": "a basket, a tray and food for a cat",
}
COLUMNS = ("file_name", "caption", "license", "source", "concept", "tags", "split")


def licence_text(name: str, source: str) -> str:
    title, artist, spdx = ARTISTS[name]
    head = f"{title}\nby {artist}\nSource: {source}\nSPDX-License-Identifier: {spdx}\nChanges: {CHANGES}\n\n"
    if spdx == "MIT":
        return head + MIT
    if spdx == "CC-PDDC":
        return head + PDDC
    full_name, link = LEGAL_CODE[spdx]
    warning = SHARE_ALIKE + "\n" if "-SA-" in spdx else ""
    return f"{head}{warning}{full_name}\nLegal code: {link}\n"


def make(source: Path, target: Path) -> dict[str, dict[str, object]]:
    """Write every artist's folder and index.json; returns what the index holds."""
    with (source / "metadata.csv").open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["file"])
    unknown = (DROPPED.keys() | CAPTIONS.keys()) - {row["file"] for row in rows}
    assert not unknown, f"not in the source: {sorted(unknown)}"
    by_artist: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        if row["file"] not in DROPPED:
            by_artist[row["artist"]].append(row)
    assert by_artist.keys() == ARTISTS.keys()
    index: dict[str, dict[str, object]] = {}
    for name, (title, artist, spdx) in ARTISTS.items():
        folder = target / name
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        lines, seen = [], set()
        for row in by_artist[name]:
            path = source / row["file"]
            with Image.open(path) as image:
                digest = hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()
            if digest in seen:
                print(f"left out, same pixels as another: {row['file']}")
                continue
            seen.add(digest)
            (folder / path.name).write_bytes(path.read_bytes())
            caption = CAPTIONS.get(row["file"], row["caption"])
            lines.append([path.name, caption, spdx, row["source"], row["concept"], row["tags"], row["split"]])
        with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([COLUMNS, *lines])
        sources = sorted({row["source"] for row in by_artist[name]})
        (folder / "LICENSE.txt").write_text(licence_text(name, "; ".join(sources)), encoding="utf-8")
        index[name] = {
            "title": title,
            "artist": artist,
            "licence": spdx,
            "count": len(lines),
            "share_alike": "-SA-" in spdx,
        }
    text = json.dumps(index, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    (target / "index.json").write_text(text, encoding="utf-8")
    return index


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--target", type=Path, default=Path("fedart_nb/art/samples"))
    arguments = parser.parse_args()
    for name, info in make(arguments.source, arguments.target).items():
        print(f"{name:12} {info['count']:4}  {info['licence']}")
