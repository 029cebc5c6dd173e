"""Measures that can be trusted with little: fidelity, style, distribution, captions, and the held-out denoising loss.

Every figure comes with what it must be compared with: chance, a baseline or ceiling, and an interval.
"""

from ..diffusion import denoising_loss
from .distribution import kid
from .estimate import Estimate, bootstrap
from .features import FeatureExtractor
from .fidelity import psnr, ssim
from .introstyle import introstyle_accuracy, introstyle_distance
from .retrieval import ConceptRetrieval
from .style import StyleAccuracy, StyleJudge, StyleReport, colour_histogram, style_report

__all__ = [
    "ConceptRetrieval",
    "Estimate",
    "FeatureExtractor",
    "StyleAccuracy",
    "StyleJudge",
    "StyleReport",
    "bootstrap",
    "colour_histogram",
    "denoising_loss",
    "introstyle_accuracy",
    "introstyle_distance",
    "kid",
    "psnr",
    "ssim",
    "style_report",
]
