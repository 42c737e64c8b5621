"""The denoising network: frozen encoder, feature augmentation and decoder in one module."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ctclip.networks.augmentation import ProgressiveFeatureAugmentation
from ctclip.networks.backbone import BackboneEncoder
from ctclip.networks.config import ENCODER_IMAGE_CHANNELS, DenoiserConfig, config_of_fields
from ctclip.networks.decoder import DenseFeatureDecoder
from ctclip.networks.encoder import DenseFeatureEncoder, FreezableEncoder
from ctclip.settings import PAD_MULTIPLE


class DenseFeatureDenoiser(nn.Module):
    """Denoises images with the dense features of a frozen encoder (Cheng et al., *Transfer CLIP for Generalizable Image
    Denoising*, CVPR 2024).

    The parts are ``encoder``, ``augmentation``, ``decoder`` and, for ``input_adapter="conv"``, ``input_conv``.
    Weights are random until they are loaded; :func:`ctclip.load_network` gives a network with its weights.

    Args:
        config: the architecture, or its fields as a mapping (the form that a bundle's JSON gives).
        freeze_encoder: ``False`` only for pre-training an encoder of one's own.
        augmentation_gamma: strength of the feature augmentation during training; 0 switches it off.
        drifting_batchnorm: see :class:`DenseFeatureEncoder`; only for comparisons.
    """

    def __init__(
        self,
        config: DenoiserConfig | dict,
        *,
        freeze_encoder: bool = True,
        augmentation_gamma: float = 0.025,
        drifting_batchnorm: bool = False,
    ) -> None:
        super().__init__()
        self.config = config if isinstance(config, DenoiserConfig) else config_of_fields(DenoiserConfig, config)
        adapts = self.config.in_channels == 1 and self.config.input_adapter == "conv"
        self.input_conv = nn.Conv2d(1, ENCODER_IMAGE_CHANNELS, kernel_size=1, bias=False) if adapts else None
        frozen = {"frozen": freeze_encoder, "drifting_batchnorm": drifting_batchnorm}
        self.encoder: FreezableEncoder
        if self.config.backbone is None:
            self.encoder = DenseFeatureEncoder(self.config.encoder_layers, self.config.encoder_width, **frozen)
        else:
            self.encoder = BackboneEncoder(self.config, **frozen)
        # Plain attributes, because TorchScript cannot hold the config. A residual is added to all channels, or to the
        # slice in the middle of a stack.
        self.pad_multiple, self.image_channels = PAD_MULTIPLE, ENCODER_IMAGE_CHANNELS
        self.in_channels = self.config.in_channels
        self.residual = self.config.residual
        self.first_out = (self.config.in_channels - self.config.out_channels) // 2
        self.end_out = self.first_out + self.config.out_channels
        self.augmentation = ProgressiveFeatureAugmentation(augmentation_gamma)
        self.decoder = DenseFeatureDecoder(
            (ENCODER_IMAGE_CHANNELS, *self.config.tap_channels),
            self.config.out_channels,
            width=self.config.decoder_width,
            align_corners=self.config.align_corners,
            head_width=self.config.head_width,
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Denoise a batch of images of any size.

        Args:
            image: (B, in_channels, H, W), values nominally in [0, 1], H and W from 1 up.

        Returns:
            (B, out_channels, H, W), not clipped.

        Raises:
            ValueError: for another number of channels.
        """
        require_channels(image, self.in_channels)
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, self.pad_multiple)
        f0 = self._encoder_image(padded)
        clean = self.decoder([f0] + self.augmentation(self.encoder(f0)))  # noqa: RUF005  TorchScript has no star
        if self.residual:
            clean = padded[:, self.first_out : self.end_out] + clean
        return clean[..., :height, :width]

    def _encoder_image(self, image: torch.Tensor) -> torch.Tensor:
        """F0: the three-channel image that the encoder sees and the decoder's last block joins."""
        if self.input_conv is not None:
            return self.input_conv(image)
        return image.expand(-1, self.image_channels, -1, -1)


def require_channels(image: torch.Tensor, expected: int) -> None:
    """Refuse images of other channels: repeating one for the encoder would take three as they are, other slices than
    the network knows.

    Raises:
        ValueError: for another number of channels.
    """
    if image.shape[1] != expected:
        raise ValueError(
            f"expected images of {expected} channels, found {image.shape[1]}; give stacks of as many slices"
        )


def pad_to_multiple(image: torch.Tensor, multiple: int) -> torch.Tensor:
    """Pad (B, C, H, W) at the bottom and right to multiples of ``multiple``: mirrored, as far as the image reaches.

    Mirroring without repeating the border needs a side longer than the padding; shorter sides repeat their last row
    or column.
    """
    height, width = image.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    image = F.pad(image, (0, right, 0, 0), mode="reflect" if right < width else "replicate")
    return F.pad(image, (0, 0, 0, bottom), mode="reflect" if bottom < height else "replicate")
