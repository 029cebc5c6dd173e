"""An artist's own pictures: read, checked, captioned, and given or withheld one by one.

>>> from fedart_nb.art import ArtSet
>>> art = ArtSet.sample("openmoji", limit=8)
>>> art.pixels(art.included()).shape
(8, 128, 128, 3)
"""

from __future__ import annotations

from fedart_nb.art.artset import ArtSet
from fedart_nb.art.collecting import Picture
from fedart_nb.art.problems import Kind, Problem
from fedart_nb.art.provenance import Recipe, read_recipe
from fedart_nb.art.samples import SampleInfo

__all__ = ["ArtSet", "Kind", "Picture", "Problem", "Recipe", "SampleInfo", "read_recipe"]
