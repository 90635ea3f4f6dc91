"""Whether what runs in this container answers at HEALTH_URL; what serves nothing names none, and is healthy."""

import os
import urllib.request

if url := os.environ.get("HEALTH_URL"):
    urllib.request.urlopen(url, timeout=5).close()
