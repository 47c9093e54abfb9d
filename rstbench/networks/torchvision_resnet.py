"""ResNet-18, 50 and 101 for ImageNet, as torchvision builds them (version 1.5: stride in the 3x3 convolution).

Parameter and buffer names are torchvision's, so its checkpoints load. Deviations, each asked for by the spec:
batch norm without scale and shift (or with them in the last one only), a classifier without bias, images with another
number of channels, another width.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from rstbench.networks.layers import Normalise
from rstbench.networks.spec import ModelSpec, scaled

_LAYERS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], list[int]]] = {
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
    "resnet101": (Bottleneck, [3, 4, 23, 3]),
}


class ImageNetResNet(ResNet):  # type: ignore[misc]
    """Torchvision's ResNet with the normalisation inside: images (N, C, H, W) in [0, 1] to logits (N, classes).

    Torchvision's constructor has fixed channel counts, so the layers are made here, in its order and with its blocks;
    at width 1 they are exactly its own.
    """

    def __init__(self, spec: ModelSpec) -> None:
        nn.Module.__init__(self)
        block, blocks = _LAYERS[spec.family]
        self._norm_layer = nn.BatchNorm2d
        self.groups, self.base_width, self.dilation = 1, 64, 1
        self.inplanes = scaled(64, spec.width)
        self.conv1 = nn.Conv2d(spec.channels, self.inplanes, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(self.inplanes)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        for stage, (channels, count) in enumerate(zip((64, 128, 256, 512), blocks, strict=True)):
            layer = self._make_layer(block, scaled(channels, spec.width), count, stride=1 if stage == 0 else 2)
            setattr(self, f"layer{stage + 1}", layer)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(self.inplanes, spec.classes)
        self.last_norm = f"layer4.{blocks[-1] - 1}.{'bn3' if block is Bottleneck else 'bn2'}"
        self.normalise = Normalise(spec.mean, spec.std)
        if not spec.classifier_bias:
            self.fc.register_parameter("bias", None)
        if not spec.bn_affine:
            # Not through `norm_layer`: torchvision's constructor writes into the scale and shift of every batch norm.
            for name, layer in self.named_modules():
                if isinstance(layer, nn.BatchNorm2d) and not (spec.last_bn_affine and name == self.last_norm):
                    layer.affine = False
                    layer.register_parameter("weight", None)
                    layer.register_parameter("bias", None)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.normalise(x))  # type: ignore[no-any-return]
