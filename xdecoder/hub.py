"""Networks on the Hugging Face Hub: `save_pretrained`, `from_pretrained`, `push_to_hub`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import ModelHubMixin, hf_hub_download

from xdecoder import checkpoint
from xdecoder.download import CONFIG_FILE, WEIGHTS_FILE
from xdecoder.files import write_json
from xdecoder.network import Network


class Pretrained(
    ModelHubMixin,
    library_name="xdecoder",
    paper_url="https://arxiv.org/abs/2212.11270",
    pipeline_tag="image-segmentation",
):
    """A network, such as `xdecoder.load(…).model`, with the hub's methods.

    A folder holds model.safetensors, a checkpoint of ours, and config.json, the architecture in it for others to read.
    """

    def __init__(self, model: Network) -> None:
        self.model = model

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        config: dict[str, Any] | None = None,
        map_location: str = "cpu",
        **_: Any,
    ) -> Pretrained:
        """As the library asks for it; weights that are missing or do not fit are an error."""
        if config is None:
            raise ValueError(f"{model_id}: no {CONFIG_FILE} there; expected what save_pretrained writes")
        path = Path(model_id) / WEIGHTS_FILE
        if not Path(model_id).is_dir():
            path = Path(
                hf_hub_download(
                    model_id,
                    WEIGHTS_FILE,
                    revision=revision,
                    cache_dir=cache_dir,
                    force_download=force_download,
                    local_files_only=local_files_only,
                    token=token,
                )
            )
        found = checkpoint.interpret(checkpoint.read(path), path)
        if found.config.model_dump(mode="json") != config:
            raise ValueError(f"{path}: checkpoint of another architecture than the {CONFIG_FILE} beside it")
        return cls(found.build(map_location))

    def _save_pretrained(self, save_directory: Path) -> None:
        checkpoint.save(self.model, save_directory / WEIGHTS_FILE)
        write_json(save_directory / CONFIG_FILE, self.model.config.model_dump(mode="json"))
