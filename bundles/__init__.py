"""MONAI bundles; installed as ``ctclip.bundles``, so that their configs and models travel with the package."""
