"""Curves in MLflow, beside those of TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xdecoder.config import Config, ConfigError, read_yaml
from xdecoder.files import atomic

LONGEST = 500  # characters of a setting that MLflow keeps


class MlflowConfig(Config):
    """Where the curves go."""

    experiment: str = "xdecoder"
    """Under which runs are listed."""
    tracking_uri: str | None = None
    """A server's address, or sqlite:///FILE; null: MLFLOW_TRACKING_URI, or MLflow's own default."""
    run_name: str | None = None
    """Shown name of the run; null: the run folder's."""


class Mlflow:
    """One run, which a resumed training goes on with.

    Raises:
        ConfigError: if the package is missing or the run cannot be opened.
    """

    def __init__(self, config: MlflowConfig, folder: Path) -> None:
        try:
            from mlflow.exceptions import MlflowException
            from mlflow.tracking import MlflowClient
        except ImportError:
            raise ConfigError("trainer.mlflow: the package is missing; pip install '.[mlflow]'") from None
        remembered, settings = folder / "mlflow_id.txt", folder / "config.yaml"
        try:
            self._client: Any = MlflowClient(config.tracking_uri)
            if remembered.exists():
                self._id = remembered.read_text(encoding="utf-8").strip()
                self._client.update_run(self._id, status="RUNNING")
                return
            known = self._client.get_experiment_by_name(config.experiment)
            experiment = known.experiment_id if known else self._client.create_experiment(config.experiment)
            name = config.run_name or folder.resolve().name
            self._id = self._client.create_run(experiment, run_name=name).info.run_id
            for key, value in (_flat(read_yaml(settings)) if settings.exists() else {}).items():
                self._client.log_param(self._id, key, str(value)[:LONGEST])
        except (MlflowException, OSError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"trainer.mlflow: no run of {config.experiment!r} could be opened ({reason})") from None
        with atomic(remembered, "w") as file:
            file.write(f"{self._id}\n")

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self._client.log_metric(self._id, name, value, step=step)

    def close(self, failed: bool) -> None:
        self._client.set_terminated(self._id, "FAILED" if failed else "FINISHED")


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return found
