"""Names of torchvision's own operators, so that it can be imported beside a torch without CUDA.

MCT imports torchvision without calling any of its operators; the wheel on PyPI is built for CUDA and its
operators are not there then. Import this before `model_compression_toolkit`.
"""

import torch

NAMES = ("nms", "qnms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d")
for name in NAMES:
    torch.library.define(f"torchvision::{name}", "(Tensor x) -> Tensor")
    torch.library.define(f"torchvision::_{name}_backward", "(Tensor x) -> Tensor")
