"""Post-activation residual network for small images: ResNet-18 (He et al. 2015) with a CIFAR stem.

One 3x3 convolution of stride 1 in place of the 7x7 and its pooling. This is the network that the paper's authors'
code builds under the name ResNet-18: 11.17 M parameters.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from rstbench.networks.layers import Classifier, Normalise, batch_norm, conv1x1, conv3x3
from rstbench.networks.spec import ModelSpec, scaled


class BasicBlock(nn.Module):
    """3x3 convolution and batch norm, twice, with the ReLU of the second after the sum."""

    def __init__(self, inputs: int, outputs: int, stride: int, spec: ModelSpec, last: bool) -> None:
        super().__init__()
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn1 = batch_norm(outputs, spec)
        self.conv2 = conv3x3(outputs, outputs)
        self.bn2 = batch_norm(outputs, spec, last)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(conv1x1(inputs, outputs, stride), batch_norm(outputs, spec))

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(residual + self.shortcut(x))


class CifarResNet(nn.Module):
    """Four stages of `blocks` basic blocks, 64 to 512 channels times `width`; images (N, C, H, W) in [0, 1]."""

    def __init__(self, spec: ModelSpec, blocks: int) -> None:
        super().__init__()
        base = [scaled(channels, spec.width) for channels in (64, 128, 256, 512)]
        self.normalise = Normalise(spec.mean, spec.std)
        self.stem = conv3x3(spec.channels, base[0])
        self.bn = batch_norm(base[0], spec)
        stages = []
        inputs = base[0]
        for number, (outputs, stride) in enumerate(zip(base, (1, 2, 2, 2), strict=True)):
            stage = []
            for index in range(blocks):
                last = number == len(base) - 1 and index == blocks - 1
                stage.append(BasicBlock(inputs, outputs, stride if index == 0 else 1, spec, last))
                inputs = outputs
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.last_norm = f"stages.{len(base) - 1}.{blocks - 1}.bn2"
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = Classifier(inputs, spec.classes, spec.classifier_bias)

    def forward(self, images: Tensor) -> Tensor:
        features = functional.relu(self.bn(self.stem(self.normalise(images))))
        return self.classifier(self.pool(self.stages(features)))  # type: ignore[no-any-return]
