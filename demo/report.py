"""Write the report of a run: python demo/report.py RUN_FOLDER"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the rooms beside this one are not installed

from trainer.report.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
