"""The former name of `fedart_nb._system.files`: goes with version 0.1.0."""

import sys

from ._system import files

sys.modules[__name__] = files
