"""`python -m xdecoder` is the command `xdecoder`."""

import sys

from xdecoder.cli import main

sys.exit(main())
