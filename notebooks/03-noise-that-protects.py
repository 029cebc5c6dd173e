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
# # Noise that protects
#
# **An update tells about your pictures. Noise makes it tell less, by an amount that you choose and that can be proved.
# What does it cost your art, and what does it cost the attacker?**
#
# You will see the price, take one noised step by hand, pay for it from a ledger, and try to cheat the ledger. Twenty-five
# minutes.

# %%
import torch

from fedart_nb import ArtSet, LedgerPanel, NoisePanel, PicturePrivacy, TrainConfig
from fedart_nb.diffusion import attached, initial_adapter
from fedart_nb.diffusion.training import picture_losses
from fedart_nb.figures import gradient_norms
from fedart_nb.privacy import plan
from fedart_nb.workshop.lessons import Lesson, Prediction, SelfCheck

lesson = Lesson("Ada")
session = lesson.session
lesson

# %%
session.art = ArtSet.sample("openmoji", limit=24)
session.art

# %% [markdown]
# ## 1. Predict
#
# Epsilon says how much any one of your pictures may change what leaves your kernel: 0 is nothing, infinity is no promise.

# %%
Prediction(
    "Training at epsilon 1, 3 and 8, and without noise. From which on do the drawings still learn anything of a style?",
    ["from epsilon 1 on", "from 3 on", "from 8 on", "only without noise"],
    "Look for yourself, with the slider of the next cell. What you see there was trained with few pictures and few steps: "
    "the same epsilon costs less, the more pictures an artist has and the more artists take part.",
)

# %%
noise = NoisePanel(session)
noise

# %% [markdown]
# The slider shows frames that came with the package. **Compute this exactly** trains on the pictures that you chose
# above, in this kernel, and puts the result in the frame's place.
#
# ## 2. One step, by hand
#
# All of it is four small functions. Read them, change them, and run the cells again.
#
# **First**: what does *one* picture want to change? Its gradient, as one long row of numbers.

# %%
backbone, data = session.backbone, session.latents("train")
adapter = initial_adapter(backbone, seed=0)
config, chance = TrainConfig(caption_dropout=0.0), torch.Generator().manual_seed(0)


def gradient_of(picture, learning):
    loss = picture_losses(backbone, data, config, chance, torch.tensor([picture])).mean()
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, learning)])


print(len(data), "pictures to learn from,", adapter.size, "numbers in the adapter")

# %% [markdown]
# **Second**: no picture may pull harder than `clip_norm`. This is what makes any promise possible: noise can hide only
# what has a limit.


# %%
def clipped(gradient, clip_norm):
    return gradient * min(1.0, clip_norm / float(gradient.norm()))


def learning_in(denoiser):
    return [p for name, p in denoiser.named_parameters() if p.requires_grad and "lora_B" in name]


with attached(backbone, [(adapter, 1.0)], trainable=0):
    norms = [float(gradient_of(i, learning_in(backbone.denoiser)).norm()) for i in range(len(data))]
gradient_norms(norms, clip_norm=0.02)

# %% [markdown]
# **Third**: every picture is in the sample by the toss of a coin, so nobody knows which were; the clipped gradients are
# added up, and the noise goes on the **sum**.


# %%
def noised_sum(learning, *, clip_norm, noise_multiplier, batch):
    size = sum(p.numel() for p in learning)
    signal = torch.zeros(size)
    for picture in range(len(data)):
        if torch.rand((), generator=chance) < batch / len(data):
            signal += clipped(gradient_of(picture, learning), clip_norm)
    return signal, torch.randn(size, generator=chance) * noise_multiplier * clip_norm


# %% [markdown]
# **Fourth**: one step down. Then three of them, and look how loud the noise is.


# %%
def step_down(learning, direction, *, rate):
    with torch.no_grad():
        for p, part in zip(learning, direction.split([p.numel() for p in learning]), strict=True):
            p.sub_(rate * part.view_as(p))


# %%
with attached(backbone, [(adapter, 1.0)], trainable=0):
    learning = learning_in(backbone.denoiser)
    for step in range(3):
        signal, loud = noised_sum(learning, clip_norm=0.02, noise_multiplier=1.0, batch=8)
        step_down(learning, (signal + loud) / 8, rate=1.0)
        ratio = float(loud.norm() / signal.norm())
        print(f"step {step + 1}: signal {signal.norm():.3f}, noise {loud.norm():.2f}, noise / signal {ratio:.0f}")

# %% [markdown]
# Where the last number is far above 1, noise drowns the signal in each single step. Learning lives from what stays the
# same from step to step: the noise of many steps, and of many artists, cancels in part, the signal adds up.
#
# The kernel's own step does the same with two differences: its noise comes from a cryptographic generator that nobody
# can seed, and it takes all gradients in one pass. A test holds it to the hand-made sum, to five digits.

# %%
SelfCheck(
    "You leave out the clipping and keep the noise. What is the promise worth now?",
    {
        "the same: the noise did not change": "The noise hides only what is smaller than it. One odd picture with a "
        "gradient a hundred times as long would show.",
        "nothing": "Yes. Without a limit on one picture's pull there is no noise that hides it for certain.",
        "less, but still something": "It feels so, but there is no number to put on it: a promise needs the limit.",
    },
    right="nothing",
)

# %% [markdown]
# ## 3. Before you begin: the plan
#
# How loud will it be? That can be worked out beforehand, without a single picture.

# %%
known = {"pictures": 50, "batch": 8, "steps": 15, "rounds": 10, "artists": 10, "parameters": 70_000, "epsilon": 8}
print("Each picture protected:", plan(unit="picture", **known), sep="\n", end="\n\n")
print("Each artist protected, with everything that they do:", plan(unit="artist", **known), sep="\n")

# %% [markdown]
# ## 4. The ledger
#
# A budget is spent by looking, not by publishing: each training costs, whether you like its result or not. The ledger
# of this kernel is paid **before** the first step, and lies in two places.

# %%
wish, short = PicturePrivacy(epsilon=3.0), TrainConfig(steps=4, validate_every=0)
*_, trained = session.train_personal(short, privacy=wish)
ledger = LedgerPanel(session, room="personal")
ledger

# %% [markdown]
# *Predict:* you run the training a second time, with the same wish. It would be the same pictures, the same promise.

# %%
Prediction(
    "What happens?",
    ["it trains again, the promise is the same", "it trains again, and the ledger counts double", "it refuses"],
    "All of the budget was spent by the first training: it was solved so that the noise is as little as the budget "
    "allows. Run the next cell.",
    answer="it refuses",
)

# %%
from fedart_nb.errors import BudgetExceeded

try:
    list(session.train_personal(short, privacy=wish))
except BudgetExceeded as refusal:
    print(refusal)

# %% [markdown]
# In a session of your own, restarting the kernel, copying the session's folder or setting the clock back does not refund
# either. Leaving the room or withdrawing does not: what was published stays known. You may *raise* the budget, and the
# ledger keeps that you did. (This lesson's session is thrown away: **Start this lesson over** above begins with a full
# budget, because nothing that was trained here was ever published.)

# %%
SelfCheck(
    "Epsilon is spent. What of your art is still protected?",
    {
        "everything that was promised so far": "Yes. The promise holds for ever, for what was released; just nothing more "
        "may be released under it.",
        "nothing any more": "A spent budget is a promise kept, not a promise broken.",
    },
    right="everything that was promised so far",
)

# %% [markdown]
# ## What this does not protect
#
# The unit is **one picture**. Somebody with many of your pictures, or an eye for your manner, may still tell that an
# artist like you took part: notebook 6 measures that. Your personal adapter stays here, so it needs no noise, unless you
# hand it on.
