"""Secure aggregation: the sum of many vectors, computed so that nobody sees a single one of them.

The protocol is that of Bonawitz et al. 2017, "Practical Secure Aggregation for Privacy-Preserving Machine Learning"
(CCS'17, eprint 2017/281), figure 4, in its variant against an active adversary. Read beside the paper:

    identity   who somebody is: Ed25519 keys, signatures          (d_u)
    keys       all keys of one artist in one round                 (c_u, s_u, KA.agree, AE)
    shamir     secret sharing over a prime above 2^256             (SS)
    masks      keys expanded by AES-256-CTR, added in place        (PRG)
    encoding   real numbers as whole numbers modulo 2^32           (the input field)
    messages   the nine messages and the signed roster             (SIG, sigma_u)
    client     user u, one method per round
    server     the server, one method to close each round
    graph      k neighbours instead of everybody                   (Bell et al. 2020, eprint 2020/704)

Threat model. Relay and host may do whatever they like (read, drop, replay, forge, show different artists different
things), together with some of the n artists. With the threshold t = floor(2n/3) + 1, an honest artist's vector stays
hidden among those of the honest artists in the sum: they learn the sum of these and no more,
  - against up to t - 1 colluding artists, while relay and host follow the protocol and only watch;
  - against fewer than 2t - n colluding artists (about a third) when relay and host play foul: with more, they could ask
    two halves of the room for the two kinds of shares of one artist, each half with the colluders' signatures.
This holds if X25519, Ed25519, HKDF, ChaCha20-Poly1305 and AES-256 hold (all from `cryptography`), if each honest kernel
keeps its round secret, and if the identity keys in the roster are those of as many people: whoever may invent artists
at will invents the colluders as well, and no protocol can tell. So the roster is shown and confirmed by people before
anything is dealt for it (`SecAggClient.read`, `fedart_nb.session.roster_check`); the safety number compares lists, it
counts nobody. All this on the complete graph: an artist refuses a sparser one, or a smaller roster, than was agreed.

What it does not give:
  - privacy of what the sum itself says. One round's sum, or the difference of two rounds' sums, may still tell
    something about one artist (memberships, a rare motif). Only noise bounds that: `fedart_nb.privacy`.
  - an honest sum. A malicious artist can send any vector, within the range of the encoding or not, and nobody sees it.
  - a finished round. Relay and host can always stop one; an artist can spoil one, or hold it up with signs of life, and
    is named where possible.
  - hiding who takes part, when, and how large a vector is.
  - constant-time arithmetic: Shamir's shares are computed with Python's integers, in a kernel that nobody else times.

Identities alone are exported here, because the relay needs them and loads no numpy; the rest is in its modules.
"""

from __future__ import annotations

from fedart_nb.crypto.identity import Identity, identity_id, verify

__all__ = ["Identity", "identity_id", "verify"]
