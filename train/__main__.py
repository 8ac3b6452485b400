"""`python -m train --config FILE`: one run; under torchrun, one of its processes."""

import sys

from train.command import main

sys.exit(main())
