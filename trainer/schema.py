"""The JSON schema of experiments, with which editors complete and check YAML: xdecoder schema > experiment.schema.json"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from trainer.experiment import ExperimentConfig


def schema() -> dict[str, Any]:
    """Every key with its type, its alternatives and its sentence; `base`, which YAML files may begin with, too."""
    found: dict[str, Any] = ExperimentConfig.model_json_schema()
    found["properties"]["base"] = {"type": "string", "description": "Another file, over which this one is laid."}
    found.pop("required", None)  # what is missing here may stand in the base
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the schema; it takes no arguments."""
    json.dump(schema(), sys.stdout, indent=1)
    print()
    return 0
