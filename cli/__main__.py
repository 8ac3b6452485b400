"""`python -m cli`: the `helix4d` command without installing it."""

import sys

from cli.main import main

sys.exit(main())
