"""What a plan will cost, before it runs. No torch.

Two ways to say it. `stated`: multiply-accumulates over the stated rate of a processor, which needs nothing. `units`,
`calibration`, `forecast`: what each node does, in units of work whose seconds were measured on this machine
(`build.calibrate`), and the order in which workers would do it.
"""

from rstbench.estimate.stated import CORE_FLOPS, GPU_FLOPS, KINDS, KindCost, Left, costs, left

__all__ = ["CORE_FLOPS", "GPU_FLOPS", "KINDS", "KindCost", "Left", "costs", "left"]
