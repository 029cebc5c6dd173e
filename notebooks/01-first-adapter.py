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
# # Your first adapter
#
# **In fifteen minutes a small model learns to draw a little in your manner, and not one of your pictures leaves this
# notebook.**
#
# Everything here runs in one place: the *kernel*, the Python process behind this page. There is no account and no
# download. You will
#
# 1. see what the model draws before it has met you,
# 2. choose pictures (yours, or sample art by ten real artists),
# 3. train an *adapter*, a thin layer of numbers on top of the frozen model,
# 4. look at the same prompts, drawn by you and the model together.
#
# *Run all cells* works; so does pressing the buttons yourself, which is more fun.

# %% [markdown]
# ## 1. The model, before you
#
# The **backbone** is the part that already knows how to draw, a little. It is tiny: 11 million numbers, trained on
# 6,273 freely licensed emoji, icons, clip-art drawings and portraits. (The models behind the well-known picture
# generators are a hundred to a thousand times larger.) It has met cats and umbrellas. It has not met you.

# %%
from fedart_nb import ArtPanel, Session, StylePanel, TrainPanel
from fedart_nb.figures import contact_sheet

session = Session("Me")
PROMPTS = ["cat", "red apple", "tree", "police officer"]

# %%
*_, before = session.pictures(PROMPTS, seeds=[1, 2, 3, 4], personal=0, shared=0)
contact_sheet(before.pictures, PROMPTS, columns=4)

# %% [markdown]
# Not pretty? Good: there is something to teach. Four prompts, four *seeds*. Each picture starts as pure noise, and in
# twenty steps the model carries the noise away. The same seed always gives the same noise, so whatever changes further
# down is the adapter's doing.

# %% [markdown]
# ## 2. Your pictures
#
# Pick sample art, or type the path of a folder with your own drawings. Twenty pictures are enough for a beginning.
# Untick a picture, and training will never read it.
#
# The panel first says **where this kernel runs**. On your own computer, "local" means what you think. On a public
# server it means somebody else's machine: use the sample art there.

# %%
art = ArtPanel(session)
art

# %% [markdown]
# Rather not choose? The next cell loads thick outlines and flat colours by the OpenMoji project.

# %%
if session.art is None:
    art.load_sample("openmoji")
session.art

# %% [markdown]
# ## 3. Train
#
# The model is shown one of your pictures half drowned in noise, and must point the way back to the picture. How far
# it points astray is the **loss**. The backbone stays frozen; only the adapter learns: about 164,000 numbers, one for
# every 67 of the backbone.
#
# A fifth of your pictures are **held out**: never learnt from, only asked about. They answer the question that
# matters: does this help with drawings the model has *not* seen? *Before you press Start: will the loss on those fall
# all the way, or turn up again?* (Do not compare the heights of the two lines: training asks harder questions.)

# %%
training = TrainPanel(session, prompts=PROMPTS)
training

# %% [markdown]
# Press **Start** above, or run the next cell, which presses it for you and waits. **Cancel** keeps what was learnt so
# far, and **Resume** goes on from there.

# %%
if training.job is None or training.job.state == "cancelled":
    training.start()
await training.job

# %% [markdown]
# ## 4. Turn it up
#
# An adapter has a volume knob. At 0 the backbone draws alone, at 1 the adapter is as loud as it was trained to be.
# Beyond that it shouts. Nothing else differs between the rows: same words, same noise. *Where does an apple stop
# being one?*

# %%
sheet, labels = [*before.pictures], [f"{prompt}, 0" for prompt in PROMPTS]
for volume in (0.5, 1, 2):
    *_, drawn = session.pictures(PROMPTS, seeds=[1, 2, 3, 4], shared=0, personal=volume)
    sheet += [*drawn.pictures]
    labels += [f"{prompt}, {volume}" for prompt in PROMPTS]
contact_sheet(sheet, labels, columns=4)

# %% [markdown]
# Now turn the knob yourself. Moving the slider shows the nearest volume that is drawn already and says so; the exact one
# follows. Drag the edge in the picture to see what the backbone alone would have drawn. *Keep* a seed that you like, let
# chance find others, and save your favourite: its recipe goes into the file. *Keep to the words* lets the backbone say
# what is drawn and your adapter how; switch it off, and see what your adapter alone makes of the words: a few dozen
# pictures teach a hand, and cost words. (The shared adapter's knob wakes up in notebook 4.)

# %%
mixing = StylePanel(session, "red apple")
mixing.start()
mixing

# %% [markdown]
# ## 5. A number to hold against the pictures
#
# Pictures persuade, so here is something that does not: the loss on your held-out drawings, with the same noise for
# both: the two figures that the panel told. Lower is better. If it did not fall, the adapter has learnt your training
# pictures by heart, or nothing at all.

# %%
losses = {
    "backbone alone": session.held_out_loss(shared=0, personal=0),
    "with your adapter": session.held_out_loss(shared=0),
}
losses

# %% [markdown]
# ## 6. Where it is
#
# The adapter is one small file on the kernel's machine, in the format that plain `diffusers` reads with
# `load_lora_weights`. It is yours. Nothing was sent anywhere: nobody was there to send it to.

# %%
session.personal.save(session.folder / "personal")

# %% [markdown]
# **Say it to a friend:** *what is in that file, and what of your drawings could somebody read out of it?* If you are
# not sure, that is the right answer for now; a later notebook tries it. Next, `04-rounds-together`: the same, in
# company.
