"""SED: open-vocabulary semantic segmentation from a cost map (Xie et al.: SED, CVPR 2024)."""
