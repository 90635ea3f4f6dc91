"""A headless Chromium that reports what a page said on its console and what it requested."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


class Browser:
    """One window. `driver` is Selenium's."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(
        self, page: Path, *, width: int = 1100, height: int = 900, dark: bool = False, charts: bool = True
    ) -> None:
        """Open a file, and wait until its charts are drawn, if it has any at once."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get(page.as_uri())
        if charts:
            self.wait("return [...document.querySelectorAll('.vega')].every((place) => place.dataset.ready)")

    def said(self) -> list[str]:
        """Return the warnings and errors on the console since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requested(self) -> list[str]:
        """Return the addresses of all requests since the last call, without data that the page itself holds."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        found = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [url for url in found if not url.startswith("data:")]

    def run(self, script: str, *values: Any) -> Any:
        """Return the result of a script's `return`."""
        return self.driver.execute_script(script, *values)

    def wait(self, script: str) -> Any:
        """Return the result of a script as soon as it is true; raise TimeoutException after a minute."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, 60).until(lambda driver: driver.execute_script(script))

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser; skip the test where Selenium, Chromium or its driver is absent."""
    selenium = pytest.importorskip("selenium.webdriver", exc_type=ImportError)
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (browser and driver):
        pytest.skip("needs chromium and chromedriver: apt-get install chromium chromium-driver")
    options = selenium.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    from selenium.webdriver.chrome.service import Service

    found = selenium.Chrome(options=options, service=Service(driver))
    try:
        yield Browser(found)
    finally:
        found.quit()
