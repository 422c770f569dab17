"""What scores and measures are called, in tables, on axes and in sentences."""

from __future__ import annotations

from ..data import shapes
from ..presets import Preset

# name -> (heading, whether a larger value is better, digits shown)
METRICS = {
    "fid": ("FID", False, 1),
    "is": ("IS", True, 2),
    "intra_fid": ("intra FID", False, 1),
    "consistency": ("consistency", True, 3),
    "consistency_mirrored": ("consistency, mirrored", True, 3),
    "consistency_turned": ("consistency, turned", True, 3),
    "diversity": ("diversity", True, 2),
    "fid_clean": ("FID, clean-fid", False, 1),
    "kid": ("KID", False, 4),
    "kid_clean": ("KID, clean-fid", False, 4),
    "is_10": ("IS in ten splits", True, 2),
    "precision": ("precision", True, 3),
    "recall": ("recall", True, 3),
    "intra_kid": ("intra KID", False, 4),
    **{
        f"{metric}_lite2": of
        for metric, of in {"fid": ("FID", False, 1), "kid": ("KID", False, 4), "is": ("IS", True, 2)}.items()
    },
}
ATTENTION = {  # quantity of attention.statistics -> what it is
    "distance": "mean attended distance (sides of the image)",
    "distance_uniform": "distance under uniform attention (sides of the image)",
    "distance_nearest": "distance of the nearest key (sides of the image)",
    "distance_3x3": "distance under equal attention to the nearest 3x3 keys (sides of the image)",
    "entropy": "entropy (share of uniform attention's)",
    "colour": "colour difference to what is attended (grey levels)",
    "colour_other": "colour difference under another image's map (grey levels)",
    "colour_uniform": "colour difference under uniform attention (grey levels)",
    "colour_3x3": "colour difference under equal attention to the nearest 3x3 keys (grey levels)",
}

BUDGETS = {"G updates": "G updates", "D updates": "D updates", "cost": "declared cost"}  # of plan.BUDGETS
PIXELS = ("consistency", "consistency_mirrored", "consistency_turned", "diversity")  # no extractor in them
EXTRACTOR_LABELS = {
    "efficientnet_lite0": "EfficientNet-Lite0",
    "efficientnet_lite2": "EfficientNet-Lite2",
    "inception": "Inception",
}
SHORT_LABELS = {"efficientnet_lite0": "Lite0", "efficientnet_lite2": "Lite2", "inception": "Inception"}
CLASS_NAMES = {  # of the ten first classes, by the data's name, in the order of the labels
    "symmetric shapes": shapes.CLASS_NAMES,
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "structure-texture-64": (
        *("goldfish", "golden retriever", "Persian cat", "lion", "school bus"),
        *("brain coral", "coral reef", "cliff", "alp", "seashore"),
    ),
}


def heading(metric: str, preset: Preset) -> str:
    """The metric's name with the extractor it rests on, as shown over every column and axis."""
    name = METRICS[metric][0]
    extractor = "efficientnet_lite2" if metric.endswith("_lite2") else preset.extractor
    return name if metric in PIXELS else f"{name} ({SHORT_LABELS[extractor]})"
