# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
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
# The **backbone** is small: 11 million numbers, trained on 6,700 freely licensed emoji, icons, clip-art drawings and
# portraits. It knows cats and umbrellas. It does not know you.

# %%
from fedart_nb import ArtPanel, Session, TrainPanel
from fedart_nb.figures import contact_sheet

session = Session("Me")
PROMPTS = ["cat face", "strawberry", "house", "smiling face"]

# %%
*_, before = session.pictures(PROMPTS, seeds=[1, 2, 3, 4], personal=0, shared=0)
contact_sheet(before.pictures, PROMPTS, columns=4)

# %% [markdown]
# Four prompts, four seeds. The model starts from noise and removes a little of it in each of twenty steps. The same
# seed always gives the same noise, so whatever changes later is the adapter's doing.

# %% [markdown]
# ## 2. Your pictures
#
# Pick sample art, or type the path of a folder with your own drawings. Twenty pictures are enough for a beginning.
# Untick a picture and training will never read it.
#
# The panel first says **where this kernel runs**. On your own computer, "local" means what you think. On a public
# server it means somebody else's machine: use the sample art there.

# %%
art = ArtPanel(session)
art

# %% [markdown]
# Rather not choose? This cell loads thick outlines and flat colour by the OpenMoji project.

# %%
if session.art is None:
    art.load_sample("openmoji")
session.art

# %% [markdown]
# ## 3. Train
#
# The model is shown one of your pictures with noise on it and must say what the noise was. Its error is the **loss**.
# The backbone stays frozen; only the adapter learns, about a hundred and seventy thousand numbers.
#
# Some of your pictures are **held out**: never learnt from, only used to ask "does this help with drawings that you
# have not seen?" Watch that second curve. *Before you press Start: which of the two curves will fall further?*

# %%
training = TrainPanel(session, prompts=PROMPTS)
training

# %% [markdown]
# Press **Start** above, or run the next cell. **Cancel** keeps what was learnt so far and **Resume** goes on from there.

# %%
if session.personal is None and not (training.job and not training.job.has_ended):
    training.start()
await training.job

# %% [markdown]
# ## 4. The same prompts, in your manner
#
# Nothing but the adapter differs between the two rows: same words, same noise.

# %%
*_, after = session.pictures(PROMPTS, seeds=[1, 2, 3, 4])
contact_sheet([*before.pictures, *after.pictures], [*PROMPTS, *[f"{p}, yours" for p in PROMPTS]], columns=4)

# %% [markdown]
# ## 5. A number to hold against the pictures
#
# Pictures persuade, so here is something that does not: the loss on your held-out drawings, with the same noise for
# both. Lower is better. If it did not fall, the adapter has learnt your training pictures by heart and nothing else.

# %%
losses = {
    "backbone alone": session.held_out_loss(shared=0, personal=0),
    "with your adapter": session.held_out_loss(shared=0),
}
losses

# %% [markdown]
# ## 6. Where it is
#
# The adapter is one small file on this machine, in the format that plain `diffusers` reads with `load_lora_weights`.
# It is yours. Nothing was sent anywhere: there was nowhere to send it to.

# %%
session.personal.save(session.folder / "personal")

# %% [markdown]
# **Say it to a friend:** *what is in that file, and what of your drawings could somebody read out of it?* If you are
# not sure, good. Notebook `02-what-an-update-gives-away` will try, and `04-rounds-together` trains with other people.
