"""Pre-activation residual networks for small images (He et al. 2016, "Identity Mappings in Deep Residual Networks").

CIFAR stem: one 3x3 convolution of stride 1, no pooling. As in that paper, a last batch norm and ReLU precede the
pooling, and projection shortcuts start from the activated input. PreActResNet-18 has 11.17 M parameters.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from rstbench.networks.layers import Classifier, Normalise, batch_norm, conv1x1, conv3x3
from rstbench.networks.spec import ModelSpec, scaled


class PreActBlock(nn.Module):
    """Batch norm, ReLU, 3x3 convolution, twice; the sum is not activated."""

    def __init__(self, inputs: int, outputs: int, stride: int, spec: ModelSpec) -> None:
        super().__init__()
        self.bn1 = batch_norm(inputs, spec)
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn2 = batch_norm(outputs, spec)
        self.conv2 = conv3x3(outputs, outputs)
        projects = stride != 1 or inputs != outputs
        self.shortcut = conv1x1(inputs, outputs, stride) if projects else None

    def forward(self, x: Tensor) -> Tensor:
        active = functional.relu(self.bn1(x))
        residual = self.conv2(functional.relu(self.bn2(self.conv1(active))))
        return residual + (x if self.shortcut is None else self.shortcut(active))  # type: ignore[no-any-return]


class PreActStages(nn.Module):
    """Stem, stages of pre-activation blocks, last activation, global average pool, classifier.

    `plan` has one (channels, stride) per stage; each stage has `blocks` blocks. Takes images (N, C, H, W) in
    [0, 1] of any size, returns logits (N, classes).
    """

    def __init__(self, spec: ModelSpec, stem: int, plan: tuple[tuple[int, int], ...], blocks: int) -> None:
        super().__init__()
        self.normalise = Normalise(spec.mean, spec.std)
        self.stem = conv3x3(spec.channels, stem)
        stages = []
        inputs = stem
        for outputs, stride in plan:
            stage = []
            for index in range(blocks):
                stage.append(PreActBlock(inputs, outputs, stride if index == 0 else 1, spec))
                inputs = outputs
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.bn = batch_norm(inputs, spec, last=True)
        self.last_norm = "bn"
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = Classifier(inputs, spec.classes, spec.classifier_bias)

    def forward(self, images: Tensor) -> Tensor:
        features = self.stages(self.stem(self.normalise(images)))
        return self.classifier(self.pool(functional.relu(self.bn(features))))  # type: ignore[no-any-return]


class PreActResNet(PreActStages):
    """PreActResNet-18 (two blocks a stage) and its relative of depth 10 (one block a stage)."""

    def __init__(self, spec: ModelSpec, blocks: int) -> None:
        base = [scaled(channels, spec.width) for channels in (64, 128, 256, 512)]
        super().__init__(spec, base[0], tuple(zip(base, (1, 2, 2, 2), strict=True)), blocks)
