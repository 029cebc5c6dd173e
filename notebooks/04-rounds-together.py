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
# # Rounds together
#
# **Several people, each in a kernel of their own, teach one shared adapter, and no picture leaves any kernel.**
#
# Think of a sketchbook that travels without anybody's drawings in it. One person **hosts**: opens a room and hands
# out an invite link. Everybody else is an **artist**. In each *round* every artist's kernel trains the shared adapter
# a little, on pictures that only it can see, and sends the *difference* this made: the **update**. The host averages
# the updates, and everybody gets the new shared adapter back. Twenty-five minutes, three people or more.
#
# An update is not nothing: with enough effort, things can be read out of it. So it leaves **masked**. Each pair of
# artists agrees on random numbers that one adds and the other subtracts; in the sum of everybody they cancel. The host
# sees the sum, and no single update. (What the sum itself gives away, masks do not hide. A later notebook is about that.)
#
# *How to use this page:* the host runs the cells under **If you host**, an artist those under **If you are an artist**.
# Alone? *Run all cells*: this kernel then hosts, takes part as one artist, and invites two sample artists for company.

# %%
import os

from fedart_nb import ArtPanel, Host, HostPanel, KeepsakePanel, RoomPanel, SessionPanel, TrainPanel
from fedart_nb._system.settings import fast_mode
from fedart_nb.analysis.keepsake import Keepsake

NAME = os.environ.get("FEDART_NAME", "")  # shown to the room; a panel below asks for it
ART = os.environ.get("FEDART_ART", "openmoji")  # sample art, if you choose none of your own
INVITE = os.environ.get("FEDART_INVITE", "")  # paste the host's link here, or into the panel below
STEPS, DRAWING = (4, 4) if fast_mode() else (30, 20)  # training steps of one round, drawing steps of one picture
studio = None  # the host's panel, in the host's kernel
PROMPTS = ["cat", "red apple", "tree", "police officer"]

# %% [markdown]
# ## If you host
#
# The relay is a letter box: it passes messages on and keeps none of your secrets. `make lab` has started one on this
# computer; without it the panel starts one in this kernel.

# %% tags=["host"]
studio = HostPanel(
    Host("Studio"),
    rounds=2,
    steps=STEPS,
    min_artists=int(os.environ.get("FEDART_ARTISTS", "3")),
    door=os.environ.get("FEDART_DOOR", "lobby"),  # you let people in by name; "open": whoever has the link
)
studio

# %% [markdown] tags=["host"]
# Press **Open room**, send the link to the others, then press **Start rounds**. Or run the next cell, which does both.
#
# Who comes with the link stands **at the door**: you see a name and an id, and let people in one by one. Ask them aloud for
# their id. One person under three names could read the fourth one's update; no mathematics helps against that, counting
# does.

# %% tags=["host"]
if studio.invite is None:
    studio.open_room()
if studio.job is None or studio.job.has_ended:
    studio.start_rounds()

# %% [markdown]
# For a rehearsal, two of the sample artists come in from this kernel. Skip the cell when real people are coming.

# %% tags=["rehearsal"]
from fedart_nb.workshop.rehearsal import rehearse

company = [] if INVITE else rehearse(studio.invite, ["fluent3d", "fluent_ink"])

# %% [markdown]
# ## If you are an artist
#
# First your name. Whoever gives none is a guest with a number, whose session is deleted with the kernel.

# %% tags=["artist"]
who = SessionPanel(NAME)
who

# %% [markdown] tags=["artist"]
# Then your pictures, as in notebook 1.

# %% tags=["artist"]
session = who.session
art = ArtPanel(session)
art.load_sample(ART)
art

# %% [markdown] tags=["artist"]
# Before you meet the others, train an adapter **alone**. It is the honest comparison: what would you have without them?

# %% tags=["artist"]
solo = TrainPanel(session, prompts=PROMPTS[:2], steps=4 * STEPS, on_shared=False)
solo.start()
async for event in solo.job.follow():
    print(session.name, "alone:", event)
alone = session.personal

# %% [markdown] tags=["artist"]
# Now the room: paste the host's link and press **Join**. Tick *Ask me before each round*, and the panel shows you the
# **plan** before anything is trained: what would leave, and how large it is. Then you decide. *Leave* works at any moment.
#
# Once the round has begun, the panel shows **who takes part**, and asks: *are you so many people?* Count yourselves. Then
# read the six words of the **safety number** aloud: the same words mean that host and relay show all of you the same list.
# *We compared the words* keeps it; if somebody else turns up later, you are asked before anything of yours is masked.

# %% tags=["artist"]
link = INVITE or str(studio.invite if studio else "")
room = RoomPanel(session, invite=link, ask=False, confirm=os.environ.get("FEDART_CONFIRM", "ask"))
room

# %% tags=["artist"]
if room.job is None or room.job.has_ended:
    room.join()
async for event in room.job.follow():
    print(session.name, "in the room:", event)

# %% [markdown] tags=["artist"]
# The rounds are over. The **shared adapter** has learnt from everybody's art without seeing any of it, and draws in
# nobody's manner in particular. So train a **personal adapter** on top of it. This one is never sent.

# %% tags=["artist"]
personal = TrainPanel(session, prompts=PROMPTS[:2], steps=4 * STEPS)
personal.start()
async for event in personal.job.follow():
    print(session.name, "personal:", event)

# %% [markdown] tags=["artist"]
# *Predict:* who wins on your own held-out drawings: the adapter you trained alone, the shared one, or shared and
# personal together? The table has the answer for **your** art; ask your neighbour for theirs.

# %% tags=["artist"]
keepsake = Keepsake.of(session, PROMPTS, alone=alone, steps=DRAWING)
KeepsakePanel(session, keepsake)

# %% [markdown] tags=["artist"]
# If *alone* won, that is a finding, not a failure: few steps, few artists and very different hands often end that way.
# What company is worth, and to whom, is a question for a later notebook.

# %% [markdown]
# **Say it to a friend:** *your pictures stayed, your update was masked; what did the host get that was not there before?*
