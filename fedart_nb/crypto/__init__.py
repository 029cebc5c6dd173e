"""Identities, hash chains, random streams and safety numbers, on primitives of `cryptography`."""
