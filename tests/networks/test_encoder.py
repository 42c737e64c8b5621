from __future__ import annotations

import pytest
import torch
from torch import nn

from ctclip.networks import DenoiserConfig, DenseFeatureDenoiser, DenseFeatureEncoder

SMALL = {"encoder_layers": (1, 1, 1), "encoder_width": 8, "decoder_width": 8}


def _randomise_batch_norms(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 1.5)


def test_taps_have_the_published_strides_and_channels() -> None:
    taps = DenseFeatureEncoder((1, 1, 1), width=8)(torch.rand(2, 3, 64, 96))
    assert [tuple(tap.shape) for tap in taps] == [(2, 8, 32, 48), (2, 32, 16, 24), (2, 64, 8, 12), (2, 128, 4, 6)]


def test_taps_equal_the_tower_of_open_clip() -> None:
    from open_clip.modified_resnet import ModifiedResNet

    tower = ModifiedResNet([2, 1, 1, 1], output_dim=4, heads=1, image_size=64, width=8).eval()
    _randomise_batch_norms(tower)
    encoder = DenseFeatureEncoder((2, 1, 1), width=8)
    unused = ("layer4.", "attnpool.")
    encoder.load_state_dict({k: v for k, v in tower.state_dict().items() if not k.startswith(unused)})
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        stem = tower.stem(image)
        expected = [tower.layer1(stem)]
        expected.append(tower.layer2(expected[-1]))
        expected.append(tower.layer3(expected[-1]))
        taps = encoder(image)
    torch.testing.assert_close(encoder.avgpool(taps[0]), stem)
    for tap, known in zip(taps[1:], expected, strict=True):
        torch.testing.assert_close(tap, known)


def test_a_frozen_encoder_never_leaves_eval_mode_nor_moves_its_statistics() -> None:
    network = DenseFeatureDenoiser(DenoiserConfig(**SMALL))
    parent = nn.ModuleList([network])
    before = {name: value.clone() for name, value in network.encoder.state_dict().items()}
    parent.train()
    network.train(True)
    network.encoder.train(True)
    network(torch.rand(2, 1, 32, 32)).sum().backward()
    assert network.training
    assert not any(module.training for module in network.encoder.modules())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in network.encoder.parameters())
    assert all(parameter.grad is not None for parameter in network.decoder.parameters())
    for name, value in network.encoder.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_gradients_reach_the_learned_input_convolution_through_the_frozen_encoder() -> None:
    network = DenseFeatureDenoiser(DenoiserConfig.reference(**SMALL))
    # Only the encoder's path is left: the image itself joins the decoder's last block with weight zero.
    first = network.decoder.blocks[4][0].weight
    first.data[:, -3:] = 0
    _randomise_batch_norms(network.encoder)
    network(torch.rand(1, 1, 32, 32)).sum().backward()
    assert network.input_conv is not None
    assert network.input_conv.weight.grad is not None
    assert network.input_conv.weight.grad.abs().sum() > 0


def test_an_unfrozen_encoder_learns() -> None:
    network = DenseFeatureDenoiser(DenoiserConfig(**SMALL), freeze_encoder=False).train()
    before = network.encoder.bn1.running_mean.clone()
    network(torch.rand(2, 1, 32, 32)).sum().backward()
    assert network.encoder.conv1.weight.grad is not None
    assert not torch.equal(network.encoder.bn1.running_mean, before)


@pytest.mark.parametrize(("name", "layers", "width"), [("RN50", (3, 4, 6), 64), ("RN50x4", (4, 6, 10), 80)])
def test_configuration_of_open_clip_models(name: str, layers: tuple[int, ...], width: int) -> None:
    config = DenoiserConfig.for_encoder(name)
    assert (config.encoder_layers, config.encoder_width, config.decoder_width) == (layers, width, width)


def test_rn50_has_the_published_sizes() -> None:
    network = DenseFeatureDenoiser(DenoiserConfig.reference())
    assert len(network.encoder.state_dict()) == 270
    assert sum(p.numel() for p in network.encoder.parameters()) == 23_527_264 - 14_964_736
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 10_987_779


def test_the_published_drift_of_batchnorm_is_a_switch() -> None:
    encoder = DenseFeatureEncoder((1, 1, 1), 8, drifting_batchnorm=True).train()
    before = {name: values.clone() for name, values in encoder.state_dict().items()}
    encoder(torch.rand(2, 3, 32, 32))
    changed = [name for name, values in encoder.state_dict().items() if not torch.equal(values, before[name])]
    statistics = [name for name in before if name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert set(changed) == set(statistics)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    drifted = {name: values.clone() for name, values in encoder.state_dict().items()}
    encoder.eval()(torch.rand(2, 3, 32, 32))
    assert all(torch.equal(values, drifted[name]) for name, values in encoder.state_dict().items())
