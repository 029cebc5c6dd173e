"""The former name of `fedart_nb.crypto.identity`: goes with version 0.1.0."""

import sys

from ..crypto import identity

sys.modules[__name__] = identity
