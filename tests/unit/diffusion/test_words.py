"""Words without a token: read as a form, a neighbour or a slip of themselves, or ignored; always said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from fedart_nb.diffusion import Backbone, draw
from fedart_nb.diffusion.prompts import TABLE_FILE, Lexicon, Reading, Understood, explain, load_table, read_words
from fedart_nb.errors import BackboneError

WORDS = """a police car cat swimming box leaf hug colour gray airplane butterfly t shirt earrings ear fire truck not ice
child <noto> 2 news new crown strawberry cafe"""
KNOWN = frozenset(WORDS.split())
TABLE = {"kitty": "cat", "notice": "", "sofa": "couch", "king": "crown"}
TOKENIZER = resources.files("fedart_nb.diffusion").joinpath("embedded", "tokenizer")


def read(word: str) -> tuple[str, str]:
    (reading,) = read_words(word, KNOWN, TABLE)
    return " ".join(reading.used), reading.how


@pytest.fixture(scope="module")
def embedded() -> Lexicon:
    lexicon = Lexicon.of(AutoTokenizer.from_pretrained(str(TOKENIZER)))
    assert lexicon is not None
    return lexicon


@pytest.mark.parametrize(
    ("word", "used"),
    [
        ("cats", "cat"),
        ("Cat's", "cat"),
        ("cat’s", "cat"),
        ("boxes", "box"),
        ("leaves", "leaf"),
        ("swim", "swimming"),
        ("hugged", "hug"),
        ("children", "child"),
        ("color", "colour"),
        ("grey", "gray"),
        ("aeroplanes", "airplane"),
        ("strawberries", "strawberry"),
        ("café", "cafe"),
        ("policecar", "police car"),
        ("firetrucks", "fire truck"),
        ("earring", "earrings"),
        ("an", "a"),
    ],
)
def test_another_form_of_a_known_word_is_read_as_that(word: str, used: str) -> None:
    assert read(word) == (used, "form")


@pytest.mark.parametrize(("word", "used"), [("kitty", "cat"), ("KITTY", "cat"), ("kitties", "cat"), ("king", "crown")])
def test_a_word_in_the_table_is_read_as_its_neighbour_and_so_are_its_forms(word: str, used: str) -> None:
    assert read(word) == (used, "meaning")


@pytest.mark.parametrize("word", ["butterlfy", "buterfly", "buttterfly", "butterfpy"])
def test_one_slip_of_the_fingers_is_forgiven(word: str) -> None:
    assert read(word) == ("butterfly", "spelling")


@pytest.mark.parametrize("word", ["zorblax", "caz", "butrefyl", "uutterfly", "<nobody>", "猫", "7"])
def test_what_is_none_of_these_is_ignored_and_named(word: str) -> None:
    assert read(word) == ("", "ignored")


def test_the_table_overrules_forms_that_mislead() -> None:
    assert read_words("notice", KNOWN, {})[0].used == ("not", "ice")
    assert read("notice") == ("", "ignored")


def test_an_entry_for_another_vocabulary_does_not_count() -> None:
    assert read("sofa") == ("", "ignored")


def test_known_words_style_words_and_known_numbers_pass_in_order() -> None:
    readings = read_words("<noto> A 2 T-shirt, news!", KNOWN, TABLE)
    assert [r.word for r in readings] == ["<noto>", "a", "2", "t", "shirt", "news"]
    assert {r.how for r in readings} == {"known"}


@given(st.text(max_size=60))
def test_whatever_is_typed_only_known_words_are_used_and_every_word_is_accounted_for(caption: str) -> None:
    readings = read_words(caption, KNOWN, TABLE)
    assert all(word in KNOWN for r in readings for word in r.used)
    assert all(bool(r.used) == (r.how != "ignored") for r in readings)
    again = Lexicon(KNOWN, TABLE).understand(" ".join(w for r in readings for w in r.used))
    assert {r.how for r in again.readings} <= {"known"}


def test_the_sentences_name_each_word_once_and_sum_up_numbers() -> None:
    captions = [Lexicon(KNOWN, TABLE).understand(c) for c in ("zorblax kitty 7", "a kitty", "12 cats")]
    assert explain(captions) == (
        "“kitty” is read as “cat”.",
        "“cats” is read as “cat”.",
        "“zorblax” is not known and is ignored.",
        "The numbers “12”, “7” are ignored.",
    )


def test_many_numbers_are_not_listed_one_by_one() -> None:
    (line,) = explain([Lexicon(KNOWN, TABLE).understand(" ".join(map(str, range(10, 40))))])
    assert line == "The numbers “10”, “11”, “12”, “13”, “14”, “15” and 24 more are ignored."


def test_changed_lists_each_other_reading_once() -> None:
    understood = Lexicon(KNOWN, TABLE).understand("kitty and a kitty")
    assert understood.text == "cat a cat"
    assert understood.changed == (Reading("kitty", ("cat",), "meaning"), Reading("and", (), "ignored"))


def test_a_damaged_table_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / TABLE_FILE
    assert load_table(path) == {}
    for broken in ("{", "[1]", '{"a": 1}'):
        path.write_text(broken)
        with pytest.raises(BackboneError, match=r"nearest_words\.json .* recipes/backbone/words\.py"):
            load_table(path)


def test_a_tokenizer_that_knows_parts_of_words_reads_every_caption_as_it_stands(backbone: Backbone) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    subword = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), unk_token="<unk>")
    assert Lexicon.of(subword) is None
    plain = Backbone(backbone.pipeline, name="plain")
    plain.__dict__["_lexicon"] = None
    assert plain.understand("Zorblax’s Kitty, 7") == Understood("Zorblax’s Kitty, 7")


def test_special_tokens_cannot_be_typed(embedded: Lexicon) -> None:
    assert embedded.understand("<end> cat <unk>").text == "cat"


@pytest.fixture(scope="module")
def with_table(tmp_path_factory: pytest.TempPathFactory, saved: Callable[[str], Path]) -> Path:
    folder = tmp_path_factory.mktemp("with_table") / "pipeline"
    shutil.copytree(saved("flow"), folder)
    (folder / "tokenizer" / TABLE_FILE).write_text(json.dumps({"kitty": "cat"}))
    return folder


def test_the_table_travels_with_the_folder_and_counts_in_the_hash(
    with_table: Path, saved: Callable[[str], Path]
) -> None:
    ours = Backbone.from_pretrained(with_table, device="cpu")
    bare = Backbone.from_pretrained(saved("flow"), device="cpu")
    assert ours.understand("red kitty").text == "red cat"
    assert bare.understand("red kitty").text == "red"
    assert ours.sha256 != bare.sha256


def test_plain_diffusers_given_the_understood_text_draws_the_same_pixels(with_table: Path) -> None:
    from diffusers import DiffusionPipeline

    ours = Backbone.from_pretrained(with_table, device="cpu")
    prompt = "Red kitties, zorblax"
    mine = draw(ours, [prompt], seeds=[3], steps=3, guidance=2.0)
    plain = DiffusionPipeline.from_pretrained(with_table, safety_checker=None, requires_safety_checker=False)
    plain.set_progress_bar_config(disable=True)

    def theirs(text: str) -> np.ndarray:
        noise = torch.Generator().manual_seed(3)
        out = plain(text, num_inference_steps=3, guidance_scale=2.0, generator=noise, output_type="np")
        return (out.images * 255).round().astype(np.uint8)

    np.testing.assert_array_equal(mine, theirs(ours.understand(prompt).text))
    assert (mine != theirs(prompt)).any()


def test_the_shipped_table_is_for_the_shipped_vocabulary(embedded: Lexicon) -> None:
    assert len(embedded.table) > 1000
    assert TOKENIZER.joinpath(TABLE_FILE).stat().st_size < 400_000  # type: ignore[attr-defined]
    assert not embedded.vocabulary & embedded.table.keys(), "known words need no neighbour"
    assert {near for near in embedded.table.values() if near} <= embedded.vocabulary, "made for another vocabulary"


@pytest.mark.parametrize(
    ("word", "used"),
    [("kitty", "cat"), ("sofa", "couch"), ("crimson", "red"), ("five", ""), ("butterlfy", "butterfly")],
)
def test_common_words_are_read_sensibly_by_the_shipped_backbone(embedded: Lexicon, word: str, used: str) -> None:
    assert embedded.understand(word).text == used
