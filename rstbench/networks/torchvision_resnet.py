"""ResNet-18, 50 and 101 for ImageNet, as torchvision builds them (version 1.5: stride in the 3x3 convolution).

Parameter and buffer names are torchvision's, so its checkpoints load. Deviations, each asked for by the spec:
batch norm without scale and shift, a classifier without bias, images with another number of channels.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from rstbench.errors import SpecError
from rstbench.networks.layers import Normalise
from rstbench.networks.spec import ModelSpec

_LAYERS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], list[int]]] = {
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
    "resnet101": (Bottleneck, [3, 4, 23, 3]),
}


class ImageNetResNet(ResNet):  # type: ignore[misc]
    """Torchvision's ResNet with the normalisation inside: images (N, C, H, W) in [0, 1] to logits (N, classes)."""

    def __init__(self, spec: ModelSpec) -> None:
        if spec.width != 1.0:
            raise SpecError(
                f"network family {spec.family} is torchvision's and has one width, 1; this spec asks for {spec.width:g}"
                " (narrow networks: preact_resnet18, cifar_resnet18, wide_resnet34)"
            )
        super().__init__(*_LAYERS[spec.family], num_classes=spec.classes)
        self.normalise = Normalise(spec.mean, spec.std)
        if spec.channels != 3:
            self.conv1 = nn.Conv2d(spec.channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        if not spec.classifier_bias:
            self.fc.register_parameter("bias", None)
        if not spec.bn_affine:
            # Not through `norm_layer`: torchvision's constructor writes into the scale and shift of every batch norm.
            for layer in self.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.affine = False
                    layer.register_parameter("weight", None)
                    layer.register_parameter("bias", None)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.normalise(x))  # type: ignore[no-any-return]
