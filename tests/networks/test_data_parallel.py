"""Two processes together compute what one does with twice the batch."""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from ctclip.networks import DenoiserConfig, DenseFeatureDenoiser


def _network() -> DenseFeatureDenoiser:
    torch.manual_seed(0)
    config = DenoiserConfig(encoder_layers=(1, 1, 1), encoder_width=8, decoder_width=8, residual=True)
    return DenseFeatureDenoiser(config, augmentation_gamma=0.0).train()


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(4, 1, 32, 32, generator=generator), torch.rand(4, 1, 32, 32, generator=generator)


def _gradients(network: torch.nn.Module, image: torch.Tensor, label: torch.Tensor) -> dict[str, torch.Tensor]:
    torch.nn.functional.mse_loss(network(image), label).backward()
    return {name.removeprefix("module."): p.grad for name, p in network.named_parameters() if p.requires_grad}


def _rank(rank: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    network = torch.nn.parallel.DistributedDataParallel(_network())
    image, label = _batch()
    half = slice(2 * rank, 2 * rank + 2)
    torch.save(_gradients(network, image[half], label[half]), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_give_the_gradients_of_twice_the_batch(tmp_path: Path) -> None:
    mp.spawn(_rank, args=(str(tmp_path),), nprocs=2)
    expected = _gradients(_network(), *_batch())
    assert expected
    assert not any(name.startswith("encoder.") for name in expected), "the encoder is frozen"
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, atol=1e-7, rtol=1e-4)
