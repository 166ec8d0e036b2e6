import pickle

import pytest
import torch

from tests.tiny import tiny_batch, tiny_config, tiny_model
from xdecoder import checkpoint
from xdecoder.config import parse
from xdecoder.model import XDecoder, XDecoderConfig


def test_round_trip_is_bit_identical(tmp_path):
    model = tiny_model()
    checkpoint.save(model, tmp_path / "model.pt")
    loaded = checkpoint.load(tmp_path / "model.pt")
    assert loaded.config == model.config
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True))
    with torch.no_grad():
        a, b = (m.decode(m.encode(tiny_batch().images))[-1]["object"].semantic for m in (model, loaded))
    assert torch.equal(a, b)


def test_refusals_name_the_file(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.pt: no such checkpoint"):
        checkpoint.load(tmp_path / "nowhere.pt")

    checkpoint.save(tiny_model(), tmp_path / "model.pt")
    (tmp_path / "half.pt").write_bytes((tmp_path / "model.pt").read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"half\.pt: truncated or not a checkpoint"):
        checkpoint.load(tmp_path / "half.pt")

    torch.save({"model": {}}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt: not an X-Decoder checkpoint"):
        checkpoint.load(tmp_path / "other.pt")


class Attack:
    def __reduce__(self):
        return print, ("code from a checkpoint ran",)


def test_a_pickle_that_runs_code_is_refused(tmp_path, capsys):
    torch.save({"format": checkpoint.FORMAT, "model": Attack()}, tmp_path / "attack.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Attack()))
    for name in ("attack.pt", "plain.pt"):
        with pytest.raises(ValueError, match=f"{name}: refused"):
            checkpoint.load(tmp_path / name)
    assert capsys.readouterr().out == ""


def test_another_architecture_is_refused(tmp_path):
    model = tiny_model()
    weights = model.state_dict()
    weights["decoder.heads.semantic"] = torch.zeros(2, 2)
    content = {"format": checkpoint.FORMAT, "config": model.config.model_dump(mode="json"), "model": weights}
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"another architecture .*1 of another shape; for example 'decoder.heads.semantic'"):
        checkpoint.load(tmp_path / "model.pt")


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.pt"
    checkpoint.save(tiny_model(), path)
    before = path.read_bytes()

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OSError, match=r"model\.pt could not be written \(No space left on device\)"):
        checkpoint.save(tiny_model(1), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_timm_backbones_own_weights_are_not_fetched_again(tmp_path, monkeypatch):
    settings = tiny_config().model_dump(mode="json") | {"backbone": {"name": "timm", "model": "resnet10t"}}
    model = XDecoder(parse(XDecoderConfig, settings))
    content = {"format": checkpoint.FORMAT, "config": model.config.model_dump(mode="json"), "model": model.state_dict()}
    content["config"]["backbone"]["pretrained"] = True
    torch.save(content, tmp_path / "model.pt")

    def no_network(*_, **__):
        raise AssertionError("weights were asked for from outside")

    monkeypatch.setattr("timm.models._builder.load_pretrained", no_network)
    loaded = checkpoint.load(tmp_path / "model.pt")
    assert loaded.config.backbone.pretrained
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_a_flipped_bit_is_found(tmp_path, name):
    path = tmp_path / name
    checkpoint.save(tiny_model(), path, origin={"steps": 3})
    assert checkpoint.read(path)["origin"] == {"steps": 3}
    whole = path.read_bytes()
    for share in (0.3, 0.5, 0.8):
        at = int(len(whole) * share)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(ValueError, match=f"{name}: damaged, its content does not match its checksum"):
            checkpoint.load(path)


def test_an_architecture_that_was_changed_in_a_safetensors_file_is_found(tmp_path):
    path = tmp_path / "model.safetensors"
    checkpoint.save(tiny_model(), path)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(rb"\"heads\": 4", rb"\"heads\": 8", 1))
    assert path.read_bytes() != whole
    with pytest.raises(ValueError, match="damaged"):
        checkpoint.load(path)


def test_somebody_elses_file_without_checksums_is_read_with_a_warning(tmp_path, caplog):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"model": {"weight": torch.ones(3)}}, tmp_path / "theirs.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert checkpoint.read(tmp_path / "theirs.pt")["model"]["weight"].sum() == 3
    assert "theirs.pt: damaged" in caplog.text and "not one of ours" in caplog.text


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name_but_for_the_switch(tmp_path, wrong):
    model = tiny_model()
    with torch.no_grad():
        name = next(name for name, _ in model.named_parameters() if name.startswith("backbone"))
        model.get_parameter(name).view(-1)[3] = wrong
    checkpoint.save(model, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=rf"model\.pt: weight '{name}' is not finite .* allow_nonfinite"):
        checkpoint.load(tmp_path / "model.pt")
    content = checkpoint.read(tmp_path / "model.pt")
    built = checkpoint.interpret(content, "model.pt").build(allow_nonfinite=True)
    assert not built.get_parameter(name).isfinite().all()


@pytest.mark.parametrize("kind", [torch.int64, torch.bool])
def test_weights_of_another_kind_of_number_are_refused_by_name(tmp_path, kind):
    model = tiny_model()
    weights = model.state_dict()
    name = next(iter(weights))
    weights[name] = weights[name].to(kind)
    checkpoint.save(model, tmp_path / "model.pt", weights)
    with pytest.raises(ValueError, match=f"weight '{name}' holds {str(kind)[6:]} where the network has float32"):
        checkpoint.load(tmp_path / "model.pt")


def test_the_network_is_made_of_the_weights_that_were_read(tmp_path):
    checkpoint.save(tiny_model(), tmp_path / "model.pt")
    found = checkpoint.interpret(checkpoint.read(tmp_path / "model.pt"), tmp_path / "model.pt")
    own = found.build().state_dict()
    assert all(own[name].data_ptr() == value.data_ptr() for name, value in found.weights.items())


def test_weights_that_share_memory_or_are_of_another_precision_become_the_networks_own(tmp_path):
    model = tiny_model()
    weights = model.state_dict()
    first, second = "decoder.heads.norm.weight", "decoder.heads.norm.bias"
    fused = torch.stack((weights[first], weights[second]))
    weights[first], weights[second] = fused[0], fused[0]
    half = next(name for name in weights if name.endswith("mlp.fc1.weight"))
    weights[half] = weights[half].half()
    checkpoint.save(model, tmp_path / "model.pt", weights)
    loaded = checkpoint.load(tmp_path / "model.pt")
    assert loaded.get_parameter(half).dtype == torch.float32 and loaded.get_parameter(half).requires_grad
    with torch.no_grad():
        loaded.get_parameter(first).zero_()
    assert torch.equal(loaded.get_parameter(second), fused[0])
    assert loaded.get_parameter(first).untyped_storage().nbytes() == 4 * len(fused[0])


def test_weights_with_two_names_stay_one():
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3, bias=False)
            self.b.weight = self.a.weight

    model, value = Tied(), torch.ones(3, 3)
    checkpoint._take(model, {"a.weight": value, "b.weight": value}, "tied.pt", False)
    assert model.a.weight is model.b.weight and torch.equal(model.a.weight, value)


def test_only_what_will_be_overwritten_is_left_unfilled():
    with checkpoint._Blank():
        layer = torch.nn.Linear(400, 400)
        drawn = torch.empty(400).normal_(generator=torch.Generator().manual_seed(0))
        norm = torch.nn.LayerNorm(4)
    assert torch.equal(drawn, torch.empty(400).normal_(generator=torch.Generator().manual_seed(0)))
    assert torch.equal(norm.weight, torch.ones(4)) and layer.weight.requires_grad
