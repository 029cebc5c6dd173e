"""Secure aggregation: who somebody is (identities); the protocol itself joins them here."""

from __future__ import annotations

from fedart_nb.secagg.identity import Identity, identity_id, verify

__all__ = ["Identity", "identity_id", "verify"]
