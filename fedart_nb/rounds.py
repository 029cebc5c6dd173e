"""The former name of `fedart_nb.federated`: goes with version 0.1.0."""

import sys

from . import federated

sys.modules[__name__] = federated
