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
# # What the relay saw
#
# **In a room, every update passes through a computer that is not yours. This notebook looks into that computer.**
#
# You take part in one round, with sample artists for company. Then you put side by side what you sent, what the relay
# holds of it, and what came out. After that you change sides: you *are* the relay, and cheat. Twenty minutes.

# %%
from fedart_nb import ArtPanel, HostPanel, RelayViewPanel, RoomPanel
from fedart_nb._system.settings import fast_mode
from fedart_nb.workshop.lessons import Lesson, RelayGamePanel
from fedart_nb.workshop.rehearsal import rehearse

STEPS = 2 if fast_mode() else 12
COMPANY = (
    ["fluent_ink", "gameicons", "openmoji"] if fast_mode() else ["fluent_ink", "gameicons", "openmoji", "pixel_art"]
)

# %% [markdown]
# ## 1. A round to look at
#
# The relay starts in this kernel, so that we may look into it later. In a real workshop it stands elsewhere, and only
# its owner can; what it holds is the same.

# %%
lesson = Lesson("Ada")
session = lesson.session
lesson

# %%
art = ArtPanel(session)
art.load_sample("fluent3d")
art

# %%
studio = HostPanel(lesson.host("Looking glass"), rounds=1, steps=STEPS, min_artists=len(COMPANY) + 1)
studio.open_room()
studio.start_rounds()
studio

# %%
company = rehearse(studio.invite, COMPANY, limit=12)
room = RoomPanel(session, invite=str(studio.invite), ask=False)
room.join()
room

# %%
async for event in room.job.follow(every_s=3):
    print(event)

# %% [markdown]
# ## 2. Side by side
#
# Three columns. The first is your **update**: what your kernel has computed, and nobody else. The second is fetched from
# the relay: the bytes that it holds under your name. The third is the mean that everybody received.
#
# *Predict, before you run the cell:* how much does the second column resemble the first? And the third?

# %%
view = RelayViewPanel(session, others=[member.session for member in company])
view

# %% [markdown]
# The middle column is not "scrambled". Its histogram is flat because each number is your value **plus a sum of random
# numbers**, one from each other artist, each as large as the whole range. Every value is equally likely; there is
# nothing to unscramble. Only when all columns are added do the random numbers cancel: what one artist added, another
# one subtracted.
#
# The third column is another matter. It *does* correlate with your update: it is made of it. Masks hide **whose**;
# they do not hide **what**. The fewer artists, the more of the mean is you.

# %% [markdown]
# ## 3. What if somebody helps the relay?
#
# Move the slider. Colluding artists know their own updates, and subtract them from the sum. *How many does it take until
# your update lies open? And how many, if relay and host do not only watch, but lie?* Tick the box and see.

# %%
for colluders in range(view.view.contributors):
    sight = view.view.sight(colluders)
    print(colluders, "collude:", f"correlation {sight.correlation:.2f};", sight.sentence)

# %% [markdown]
# ## 4. Change sides
#
# Now the relay is yours, and so is the host. Five artists run a round that you may tamper with as you like. Each trick
# below has been tried on real systems, or described by researchers. Choose one, say who will notice, and press **Play**.

# %%
game = RelayGamePanel()
game.play("another model")
game

# %% [markdown]
# Three tricks in the list break no message at all: every key is signed by its owner. Wrong is only **who the others
# are**. Have you found them? No kernel can tell one person with four keys from four people. So it asks the one who can:
# before anything of hers is masked, Ada sees the list of artists. *Predict:* what should she do before she says yes?

# %%
game.play("four names")
print("Had Ada said yes:", f"cosine {game.value.read:.4f} between your guess and her update")
print(game.value.asked.question, "Nothing left." if not game.value.left else "Her update left.")

# %% [markdown]
# **Count.** Nothing else helps against one person under many names. Against a host and relay that show everybody another
# list, **compare the six words** aloud. And once you have compared them, press *We compared the words*: the ids are kept,
# and a list that holds anybody else is asked about again, in whatever round it comes.

# %%
game.play("another list")
for person in game.value.asked.people:
    print(person)

# %% [markdown]
# ## 5. What this does not give
#
# - The **sum** is still there for everybody. One round's mean, or the difference of two, can say something about you.
#   Noise bounds that; masks do not.
# - An artist can send **nonsense**, and nobody sees whose it was.
# - The relay knows **who** took part, and **when**.
#
# **Say it to a friend:** *the relay had all your bytes and learnt nothing. Where did the information go?*
