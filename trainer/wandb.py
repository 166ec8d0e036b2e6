"""Curves on Weights & Biases, beside those of TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from xdecoder.config import Config, ConfigError, read_yaml
from xdecoder.files import atomic


class WandbConfig(Config):
    """Where the curves go. The key is wandb's own affair: `wandb login`, or WANDB_API_KEY."""

    project: str
    entity: str | None = None
    """User or team; null: the account's default."""
    run_name: str | None = None
    """Shown name of the run; null: the run folder's."""
    mode: Literal["online", "offline"] = "online"
    """offline: write below the run folder only; `wandb sync` sends it later."""


class WeightsAndBiases:
    """One run, which a resumed training goes on with.

    Raises:
        ConfigError: if the package is missing or the run cannot be opened.
    """

    def __init__(self, config: WandbConfig, folder: Path) -> None:
        try:
            import wandb
        except ImportError:
            raise ConfigError("trainer.wandb: the package is missing; pip install '.[wandb]'") from None
        remembered, settings = folder / "wandb_id.txt", folder / "config.yaml"
        try:
            self._run: Any = wandb.init(
                project=config.project,
                entity=config.entity,
                name=config.run_name or folder.resolve().name,
                mode=config.mode,
                dir=str(folder),
                id=remembered.read_text(encoding="utf-8").strip() if remembered.exists() else None,
                resume="allow",
                config=read_yaml(settings) if settings.exists() else None,
            )
        except (wandb.Error, OSError) as error:
            raise ConfigError(
                f"trainer.wandb: no run of project {config.project!r} could be opened ({error}); "
                "log in, or set trainer.wandb.mode to offline"
            ) from None
        with atomic(remembered, "w") as file:
            file.write(f"{self._run.id}\n")
        # A resumed run repeats steps, which wandb's own counter would refuse.
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        self._run.log({**scalars, "step": step})

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))
