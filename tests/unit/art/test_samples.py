"""The sample art that ships loads completely, with its licences and splits."""

from __future__ import annotations

import csv
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from fedart_nb.art import ArtSet
from fedart_nb.errors import ArtError

COUNTS = {
    "fluent3d": 240,
    "fluent_ink": 239,
    "freehand": 229,
    "gameicons": 237,
    "gerald_ink": 82,
    "lorelei": 200,
    "open_peeps": 200,
    "openmoji": 240,
    "pixel_art": 200,
    "rollandin": 273,
}
FOLDER = Path(str(resources.files("fedart_nb.art"))) / "samples"
ATTRIBUTION = Path(__file__).parents[3] / "ATTRIBUTION.md"


@pytest.mark.parametrize("name", COUNTS)
def test_a_sample_set_loads_whole(name):
    art = ArtSet.sample(name)
    assert art.name == name
    assert not art.problems
    assert len(art) == COUNTS[name] == ArtSet.samples()[name].count
    assert all(p.caption for p in art)
    assert {p.licence for p in art} == {ArtSet.samples()[name].licence}
    assert 0.1 < len(art.included("test")) / len(art) < 0.3


@pytest.mark.parametrize("name", COUNTS)
def test_a_sample_folder_holds_its_licence_and_a_record_of_every_picture(name):
    folder = FOLDER / name
    rows = list(csv.DictReader((folder / "metadata.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["file_name"] for row in rows} == {path.name for path in folder.glob("*.webp")}
    assert all(row["license"] and row["source"] for row in rows)
    licence = (folder / "LICENSE.txt").read_text(encoding="utf-8")
    assert f"SPDX-License-Identifier: {ArtSet.samples()[name].licence}" in licence
    assert ArtSet.samples()[name].artist in licence


@pytest.mark.parametrize("name", COUNTS)
def test_attribution_names_every_artist_with_licence_and_count(name):
    info = ArtSet.samples()[name]
    (line,) = [x for x in ATTRIBUTION.read_text(encoding="utf-8").splitlines() if x.startswith(f"| `{name}` |")]
    assert info.artist in line
    assert info.licence in line
    assert line.endswith(f"| {info.count} |")


def test_only_openmoji_is_share_alike_and_its_folder_says_so():
    assert [name for name, info in ArtSet.samples().items() if info.share_alike] == ["openmoji"]
    assert "SHARE-ALIKE APPLIES" in (FOLDER / "openmoji" / "LICENSE.txt").read_text(encoding="utf-8")


def test_the_samples_are_the_ten_artists():
    assert ArtSet.samples().keys() == COUNTS.keys()


def test_a_concept_is_held_out_for_every_artist_at_once():
    splits = [{p.caption: p.split for p in ArtSet.sample(n)} for n in ("openmoji", "fluent3d", "fluent_ink")]
    shared = set.intersection(*map(set, splits))
    assert len(shared) > 200
    assert all(len({split[caption] for split in splits}) == 1 for caption in shared)


def test_a_small_sample_still_holds_something_out():
    for name in COUNTS:
        art = ArtSet.sample(name, limit=8)
        assert len(art) == 8
        assert art.included("test")
        assert art.included("train")


def test_a_sample_that_is_not_there_lists_the_others():
    with pytest.raises(ArtError, match=r"no sample art 'rembrandt'; choose one of fluent3d, .*rollandin"):
        ArtSet.sample("rembrandt")
    with pytest.raises(ArtError):
        ArtSet.sample("../samples/openmoji")


def test_reading_art_loads_no_torch():
    code = "import sys, fedart_nb.art; sys.exit('torch' in sys.modules or 'ipywidgets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
