"""X-Decoder on the Hugging Face Hub: `save_pretrained`, `from_pretrained`, `push_to_hub`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import PyTorchModelHubMixin, hf_hub_download

from xdecoder import checkpoint
from xdecoder.config import parse
from xdecoder.download import CONFIG_FILE, WEIGHTS_FILE
from xdecoder.files import write_json
from xdecoder.model import XDecoder, XDecoderConfig


class PretrainedXDecoder(
    XDecoder,
    PyTorchModelHubMixin,
    library_name="xdecoder",
    paper_url="https://arxiv.org/abs/2212.11270",
    pipeline_tag="image-segmentation",
):
    """The network with the hub's methods. A folder holds config.json, the architecture, and model.safetensors."""

    def __init__(self, config: XDecoderConfig | dict[str, Any]) -> None:
        super().__init__(config if isinstance(config, XDecoderConfig) else parse(XDecoderConfig, config, CONFIG_FILE))

    @classmethod
    def of(cls, model: XDecoder) -> PretrainedXDecoder:
        """A copy of any X-Decoder, such as `xdecoder.load(…).model`, that has the hub's methods."""
        copy = cls(model.config)
        copy.load_state_dict(model.state_dict())
        return copy.to(model.device).train(model.training)

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
        map_location: str = "cpu",
        strict: bool = True,
        **model_kwargs: Any,
    ) -> PretrainedXDecoder:
        """Unlike the library's own, it does not pass over missing weights."""
        if "config" not in model_kwargs:
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
        model, weights = cls(**model_kwargs), checkpoint.read(path)["model"]
        if strict:
            checkpoint.fill(model, weights, path)
        else:
            model.load_state_dict(weights, strict=False)
        return model.to(map_location).eval()

    def _save_pretrained(self, save_directory: Path) -> None:
        checkpoint.save(self, save_directory / WEIGHTS_FILE)
        write_json(save_directory / CONFIG_FILE, self.config.model_dump(mode="json"))
