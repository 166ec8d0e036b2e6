"""Networks on the Hugging Face Hub: `save_pretrained`, `from_pretrained`, `push_to_hub`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData, ModelHubMixin, hf_hub_download

from xdecoder import checkpoint
from xdecoder.download import CONFIG_FILE, WEIGHTS_FILE
from xdecoder.files import write_json
from xdecoder.inference.predictor import Predictor

USAGE = """\
```python
import xdecoder

model = xdecoder.Pretrained.from_pretrained("OWNER/REPOSITORY")
model.panoptic("photo.jpg", things=["cat", "sofa"], stuff=["wall"]).save("segments.png")
```"""


class Pretrained(
    Predictor,
    ModelHubMixin,
    library_name="xdecoder",
    paper_url="https://arxiv.org/abs/2212.11270",
    pipeline_tag="image-segmentation",
):
    """A predictor with the hub's methods, made of a network such as `xdecoder.load(…).model`.

    A folder holds model.safetensors, a checkpoint of ours, config.json, the architecture in it for others to read, and
    README.md, the model card.
    """

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

    def generate_model_card(self, *_: Any, scores: Mapping[str, float] | None = None, **__: Any) -> ModelCard:
        """What the hub shows of the network: how to use it, what it was taught and measured on, and how it is asked.

        Args:
            scores: results by name, as results.json of a run holds them; for `save_pretrained` and `push_to_hub` they stand in
                model_card_kwargs.
        """
        protocol, data = self.model.protocol, ModelCardData(library_name="xdecoder", pipeline_tag="image-segmentation")
        sections = {
            "Usage": USAGE,
            "Data": protocol.knowledge[:1].upper() + protocol.knowledge[1:] or "Its file does not say what it was taught.",
            "Limits": self.limits,
            "Measured on": "\n".join(f"- {name}: {', '.join(tasks)}" for name, tasks in protocol.measured.items()),
            "Scores": "\n".join(f"- {name}: {value:.4g}" for name, value in (scores or {}).items()),
            "How it is asked": f"```yaml\n{yaml.safe_dump(protocol.model_dump(mode='json')['tasks'], sort_keys=False)}```",
        }
        told = "".join(f"## {title}\n{text}\n\n" for title, text in sections.items() if text)
        return ModelCard(f"---\n{data.to_yaml()}\n---\n\n# {self!r}\n\n{told}[Paper](https://arxiv.org/abs/2212.11270)\n")

    def _save_pretrained(self, save_directory: Path) -> None:
        checkpoint.save(self.model, save_directory / WEIGHTS_FILE)
        write_json(save_directory / CONFIG_FILE, self.model.config.model_dump(mode="json"))
