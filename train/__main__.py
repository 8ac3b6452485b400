"""`python -m helix4d.train --config FILE`: one run; under torchrun, one of its processes."""

import sys

from helix4d.train.command import main

sys.exit(main())
