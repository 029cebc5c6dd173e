"""A round that is about to leave a kernel, for tests of what is said of it and written down."""

from fedart_nb.consent import Leaving

LEAVING = Leaving(
    room="studio",
    number=1,
    total=3,
    attempt=1,
    plan="p1",
    terms="t",
    size_bytes=4_097,
    values=1_000,
    pictures=2,
    steps=20,
    name="Ada",
    goes_to="http://127.0.0.1:1",
    others=2,
)
