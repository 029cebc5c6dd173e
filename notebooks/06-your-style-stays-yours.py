# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your style stays yours
#
# **A room teaches one shared adapter. Your own hand goes into another, which is never sent. What is in which, and how
# much of your hand shows in the shared one all the same?**
#
# You take part in two rounds, train a personal adapter on top, mix the two, take yourself out of the shared one, and
# then play the stranger who looks for you in it. Twenty-five minutes; this kernel plays the whole room.

# %%
from fedart_nb import ArtPanel, HostPanel, RoomPanel, StyleLeakPanel, StylePanel, TrainConfig
from fedart_nb._system.settings import fast_mode
from fedart_nb.diffusion import compose, denoising_loss, draw
from fedart_nb.figures import contact_sheet, table_html
from fedart_nb.workshop.lessons import Lesson, Prediction, SelfCheck
from fedart_nb.workshop.rehearsal import rehearse

STEPS, OWN_STEPS, DRAWING = (2, 4, 4) if fast_mode() else (15, 120, 20)
COMPANY = ["fluent3d", "fluent_ink", "gameicons"]

# %% [markdown]
# ## 1. A room
#
# You and three sample artists, two rounds.

# %%
lesson = Lesson("Ada")
session = lesson.session
lesson

# %%
art = ArtPanel(session)
art.load_sample("openmoji")
art

# %%
studio = HostPanel(lesson.host("Hands"), rounds=2, steps=STEPS, min_artists=len(COMPANY) + 1)
studio.open_room()
company = rehearse(studio.invite, COMPANY, limit=24)
studio.start_rounds()
room = RoomPanel(session, invite=str(studio.invite), ask=False)
room.join()
room

# %%
async for event in room.job.follow(every_s=3):
    print(event)

# %% [markdown]
# ## 2. Your own adapter, on top
#
# The shared adapter is frozen now, and a second one is trained on your pictures alone. The relay has a log. Read what
# stands under your name before, and after.


# %%
def on_the_wire():
    """How many messages of yours the relay has seen, and how many bytes you uploaded."""
    mine = [m for m in studio.host.transport.log()["messages"] if m["sender"] == session.identity.id]
    return len(mine), session.bytes_sent


before = on_the_wire()
print("messages of yours at the relay: {}, bytes of updates: {:,}".format(*before))

# %%
*_, trained = session.train_personal(TrainConfig(steps=OWN_STEPS, validate_every=0))
print(trained)
print("at the relay since:", on_the_wire()[0] - before[0], "messages,", on_the_wire()[1] - before[1], "bytes")

# %%
SelfCheck(
    "Nothing went over the wire while it trained. Is that a promise, or luck?",
    {
        "luck: the panel did not send it this time": "There is no code that could: rounds are trained by another "
        "function, and a test reads every byte of a workshop's wire for a personal adapter's numbers.",
        "a promise, as long as I do not hand the file on": "Yes. It lies in your session's folder. Whoever gets that "
        "file can draw in your hand, so it is yours to give.",
    },
    right="a promise, as long as I do not hand the file on",
)

# %% [markdown]
# ## 3. Whose pictures does it help?
#
# All three sample artists are in this kernel, so for once we may look at their held-out pictures too.

# %%
Prediction(
    "Your personal adapter goes on top of the shared one. What happens to the loss on the other artists' pictures?",
    ["it falls, as on yours", "it stays", "it rises"],
    "The next cell has the answer for these four. What makes a hand is what other hands do not do: a gain of yours there "
    "is often a loss elsewhere.",
)

# %%
people = {"you": session} | {name: member.session for name, member in zip(COMPANY, company, strict=True)}
ways = {
    "backbone alone": [],
    "shared": session.adapters(personal=0),
    "shared + your personal": session.adapters(),
}
losses = {
    way: [denoising_loss(session.backbone, one.latents("test"), adapters) for one in people.values()]
    for way, adapters in ways.items()
}

# %%
from IPython.display import HTML

rows = [(way, *(f"{loss:.4f}" for loss in found)) for way, found in losses.items()]
HTML(table_html((("held-out loss (lower is better)", *people), *rows)))

# %% [markdown]
# One honest line: measured over ten artists, an adapter that was trained **alone** for as many steps as shared and
# personal took together had the lower loss on its own artist's pictures every time (`benchmarks/quality.py`). The room
# pays in what *everybody* can draw, not in how well you draw yourself. With eight pictures each it is the other way round
# for nine of ten, unless who trains alone stops in time (`benchmarks/few_pictures.py`).
#
# ## 4. Mix
#
# *Predict:* at which weights is it still you? Slide, and wipe across the picture.

# %%
style = StylePanel(session, "red apple", seeds=(1, 2), steps=DRAWING, ahead=0 if fast_mode() else None)
style.start()
style.wait()
style

# %% [markdown]
# ## 5. Take yourself out
#
# The shared adapter has your updates in it. You know them, and you know the sum, so your kernel, and no other, can work
# out what the **others** taught: the *rest of the world*.

# %%
rest = session.rest_of_world()
own = session.latents("test")
for what, adapter in {"shared": session.shared, "shared without you": rest}.items():
    loss = denoising_loss(session.backbone, own, [(adapter, 1.0)])
    print(f"your held-out pictures, {what}: {loss:.4f}")

# %%
SelfCheck(
    "The host wants to do the same: take you out of the shared adapter. Can they?",
    {
        "yes, they have the sum": "The sum, but not your part of it: that left masked.",
        "no": "Yes, that is it: they would have to know your update. Rounds can be trained again without you, though; "
        "that is withdrawal, in notebook 7.",
    },
    right="no",
)

# %% [markdown]
# `session.train_personal(without_me=True)` trains your own adapter on that rest; `TrainConfig(apart=...)` keeps it out of
# the directions that the shared one writes already, and `TrainConfig(style_tokens=4)` learns a **style token** beside it:
# four vectors that are added to every caption, as if you said *in my hand* each time. It stays here too: an update that
# holds one cannot be made, and your kernel refuses a shared adapter that brings one along.
#
# ## 6. One file for the road
#
# Two adapters can be one. *Predict:* which of the two ways draws exactly what both together draw?

# %%
exact, small = (compose(session.adapters(), how) for how in ("cat", "svd"))
drawn = {
    f"{what}, rank {' + '.join(str(one.config.rank) for one, _ in adapters)}": draw(
        session.backbone, ["red apple"], seeds=[1], adapters=adapters, steps=DRAWING
    )[0].astype(int)
    for what, adapters in {
        "both": session.adapters(), "cat": [(exact, 1.0)], "svd": [(small, 1.0)]
    }.items()
}  # fmt: skip

# %%
import numpy as np

both, *files = drawn.values()
apart = ["", *(f": {abs(one - both).mean():.2f} of 255 away on average" for one in files)]
names = [f"{name}{told}" for name, told in zip(drawn, apart, strict=True)]
contact_sheet(np.stack(list(drawn.values())).astype(np.uint8), names, size_px=180)

# %% [markdown]
# The usual shortcut, adding A to A and B to B, is not offered: it makes products of *your* A with *their* B that nobody
# trained. `session.export(folder)` writes the file; plain `diffusers` loads it.
#
# ## 7. Now be the stranger
#
# You have seen some of Ada's published works. You get one update, or the sum of several. Was she in it?

# %%
Prediction(
    "Five artists' updates, masked and summed. How surely does a stranger who has works of yours see that you took part?",
    ["not at all: it is a sum", "better than guessing", "almost certainly"],
    "Ten very unlike artists, 100 federations with and without each: from one update in the clear it is certain, from a "
    "sum of five it is right in 99 of 100 pairs, with noise at epsilon 8 in 75, and 50 is guessing "
    "(benchmarks/leakage.py). Masks hide whose update it was. They do not hide that a hand like yours was there.",
    answer="almost certainly",
)

# %%
leak = StyleLeakPanel(session)
leak.measure()
leak

# %%
async for event in leak.job.follow(every_s=5):
    print(event)

# %% [markdown]
# ## What this does not show
#
# - A loss says how well noise is predicted on pictures, **not** whether somebody would take a picture for yours.
# - One attack, with one kind of knowledge. Another may find more.
# - Noise protects one **picture** at a time. A hand is in all of your pictures, and noise on single pictures blurs it
#   without a promise. The promise for whole artists is another unit, and far dearer: notebook 3, section 3.
#
# **Say it to a friend:** *my hand is in two places; which of them can I call back?*
