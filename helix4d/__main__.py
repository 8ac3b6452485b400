"""`python -m helix4d`: the `helix4d` command."""

import sys

from helix4d.cli.main import main

sys.exit(main())
