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
# # Consent, withdrawal, fairness
#
# **What do you agree to when you join? Can you take it back? And who gains from what you give?**
#
# You say yes to one round and half a yes to the next, read what your pictures have influenced, measure who gains, and
# then leave as if you had never come. Thirty minutes; this kernel plays the whole room.

# %%
from fedart_nb import ArtPanel, ConsentPanel, FairnessPanel, HostPanel, RoomPanel
from fedart_nb._system.settings import fast_mode
from fedart_nb.diffusion import denoising_loss
from fedart_nb.workshop.lessons import Lesson, Prediction, SelfCheck
from fedart_nb.workshop.rehearsal import rehearse

STEPS = 2 if fast_mode() else 12
COMPANY = ["fluent3d", "fluent_ink", "gameicons", "lorelei", "pixel_art"]

# %%
lesson = Lesson("Ada")
session = lesson.session
lesson

# %%
art = ArtPanel(session)
art.load_sample("openmoji")
art

# %% [markdown]
# The host asks what artists **gain**, as sums: the mean, and from five artists on how it spreads. Nobody's own number.

# %%
studio = HostPanel(lesson.host("Fair play"), rounds=2, steps=STEPS, min_artists=5, gains=True, join_s=1800)
studio.open_room()
company = rehearse(studio.invite, COMPANY, limit=16)
studio

# %% [markdown]
# ## 1. Nothing leaves unasked

# %%
Prediction(
    "You have joined a room. When does something of your pictures leave this kernel for the first time?",
    ["when I join", "when the host starts a round", "when I say yes to a round", "when my update is trained"],
    "Joining sends a name. A round sends you its plan, and waits. Nothing is trained before you said yes, and even then "
    "you can change your mind until the bytes are gone.",
    answer="when I say yes to a round",
)

# %%
print(session.join(str(studio.invite)))  # says your name to the room, no more
studio.start_rounds()
room = RoomPanel(session, ask=True)
room.join()
await room.asked()
room

# %% [markdown]
# Above stands what would leave, before it exists: how many numbers, how many bytes, to whom, trained on how many of your
# pictures. Answer there, or run the next cell, which says yes. The round takes a while; then the second one asks.

# %%
if room.plan is not None:
    room.contribute()
await room.asked()
print(f"Round 1 is over, and round {room.plan.number} asks.")

# %% [markdown]
# ## 2. Half a yes
#
# One of your pictures shall not be in it any more. Leave it out, and look at what the next round would take.

# %%
chosen = session.art.included("train")[0]
print("before:", session.what_leaves(room.plan).pictures, "pictures would be trained on")
session.art.include(chosen.id, False)
print("after: ", session.what_leaves(room.plan).pictures, "pictures; left out: one, shown as", chosen.id)

# %% [markdown]
# Say yes once more. What the room then tells of gains is about the adapter that a round *began* with: in the first round
# that is an empty one, and nobody has gained.

# %%
if room.plan is not None:
    room.contribute()
async for event in room.job.follow(every_s=3):
    print(event)

# %% [markdown]
# ## 3. What came of it
#
# *Predict, before you run the cell:* the picture was in round 1 and not in round 2. Is it out of the shared adapter?

# %%
for sentence in session.consent.influence(chosen.id).sentences:
    print(sentence)

# %%
SelfCheck(
    "So what did leaving it out do?",
    {
        "it took the picture out of the shared adapter": "The second round was trained on from the first one's result. "
        "What was learnt there is still in it.",
        "nothing": "It did something: the second update was trained without it.",
        "it kept the picture out of what came later": "Yes. Taking out what is in already takes a withdrawal.",
    },
    right="it kept the picture out of what came later",
)

# %% [markdown]
# Every choice is a **receipt**, signed with your key and chained to the one before, so that none can be changed or lost
# unnoticed. *Save* writes them for you; nobody else has them.

# %%
consent = ConsentPanel(session)
consent

# %% [markdown]
# ## 4. Who gains?

# %%
Prediction(
    "The shared adapter lowers the loss on your own held-out pictures by some amount. Is it the same for everybody?",
    ["about the same", "one or two gain most of it", "somebody is worse off than without"],
    "The panel below tells what the room knows: sums. Over ten artists and three seeds, see the table in the README under "
    "“Who gains?” (benchmarks/fairness.py).",
)

# %%
fair = FairnessPanel(session)
fair.measure()
fair

# %%
async for event in fair.job.follow(every_s=5):
    print(event)

# %%
SelfCheck(
    "The mean gain of six artists is 0.05, and yours is 0.01. What do you know of Ben's?",
    {
        "it is above mine": "Perhaps. The others' mean is above yours; Ben may be below you all the same.",
        "nothing for certain": "Yes. Only the mean of the five others follows: 0.058.",
        "it is 0.058": "That is the mean of the five others, Ben among them.",
    },
    right="nothing for certain",
)

# %% [markdown]
# A host may weigh by loss (the slider **q** in the host's panel): whom the model serves badly counts more. What that does
# to the mean and to whoever gains least is in the README, under “Who gains?”.
#
# ## 5. As if you had never been there

# %%
Prediction(
    "You withdraw. What has to happen so that the shared adapter has learnt nothing from you?",
    [
        "your update is subtracted from the sum",
        "it is trained on, until it has forgotten you",
        "it goes back to before you came, and trains again",
    ],
    "What the others learnt in round 2 started from a result with you in it, so no subtraction is exact. Training on "
    "forgets only in part: the README has the distance, measured by benchmarks/withdrawal.py.",
    answer="it goes back to before you came, and trains again",
)

# %%
print(consent.withdraw())

# %%
with_me = session.shared
consent.withdraw(sure=True)
company = [member.again() for member in company]
studio.start_rounds()

# %% [markdown]
# You are out of every further round. Whether the room *goes back* is the host's to say, because it costs the others. Here
# you are the host as well:

# %%
if await studio.asked():
    print(studio.question)
    studio.go_back()
async for event in studio.job.follow(every_s=3):
    print(event)

# %%
for member in company:
    await member.job
without_me = company[0].session.shared
own, backbone = session.latents("test"), session.backbone
for what, adapters in {"backbone": [], "with you": [(with_me, 1.0)], "trained again": [(without_me, 1.0)]}.items():
    print(f"your held-out pictures, {what}: loss {denoising_loss(backbone, own, adapters):.4f}")

# %%
for sentence in session.consent.influence(chosen.id).sentences:
    print(sentence)
log = studio.host.transport.log()
for name, one in {"you": session, "the first of the others": company[0].session}.items():
    kept = [blob["size_bytes"] for blob in log["blobs"] if blob["sender"] == one.identity.id]
    print(f"The relay holds {len(kept)} uploads of {name}, {sum(kept):,} bytes.")

# %%
SelfCheck(
    "Which of these did the withdrawal not undo?",
    {
        "the next shared adapter has learnt from me": "It has not: it was trained from before your first round, by the "
        "others alone.",
        "somebody's copy of the old shared adapter": "Yes. A file that was handed out is in other hands. And whoever "
        "holds both adapters can compare them, so leaving a small room can itself say something about you.",
        "the relay still holds my uploads": "It was told to delete them, and did, if it is honest.",
    },
    right="somebody's copy of the old shared adapter",
)

# %% [markdown]
# ## What this does not give
#
# - The **record** shows what your pictures have touched. It does not measure *how much* of an adapter is due to them.
# - A relay that cheats may keep copies. They are masked, but they are there.
# - What an artist's part is **worth** has no single right number; the scores in the README disagree, and say by how much.
#
# **Say it to a friend:** *what would you want to be asked before each round, and what would make you leave?*
