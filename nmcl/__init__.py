"""From raw micro-videos to multimodal features and predictions.

The sub-packages are `pipeline` (crawls, storage, media, stages), `extractors`, `model` and `flows` (runs on Prefect
and the command line).
"""

from importlib.metadata import version

__version__ = version("nmcl")
