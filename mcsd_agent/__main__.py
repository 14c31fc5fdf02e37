"""`python -m mcsd_agent` is `mcsd-agent`."""

import sys

from mcsd_agent.cli import main

sys.exit(main())
