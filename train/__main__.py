"""`python -m helix4d.train --config FILE`: train one run, or one process of it under torchrun."""

import sys

from helix4d.train.command import main

sys.exit(main())
