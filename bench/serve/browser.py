"""The page in a real headless Chromium: type, stream, branch, clamp, by keyboard alone, dark, 375 px wide, and what axe finds.

    python3 bench/serve/browser.py [--lstm PROGRAM] [--model RUN] [--axe FILE] [--pictures FOLDER]

Wants `selenium` from PyPI, Chromium and its driver (Debian: chromium chromium-driver), and axe-core from npm; skipped with a word
where one is missing.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import serving

try:
    from selenium import webdriver
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait
except ImportError:
    print("skipped: the selenium package is not installed (pip install selenium)")
    sys.exit(0)

FLAGS = ("--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
         "--disable-component-update --disable-sync --hide-scrollbars").split()


def browser(profile):
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not binary or not driver:
        print("skipped: Chromium and its driver are not installed (apt install chromium chromium-driver)")
        sys.exit(0)
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in [*FLAGS, f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


class Page:
    def __init__(self, driver, address):
        self.driver, self.address = driver, address
        self.wait = WebDriverWait(driver, 60)
        driver.get(address)
        self.until(lambda: self.text("status") == "Ready.")

    def until(self, true):
        self.wait.until(lambda _: true())

    def at(self, name):
        return self.driver.find_element(By.ID, name)

    def text(self, name):
        return self.at(name).text

    def tokens(self):
        return self.driver.execute_script("return [...document.querySelectorAll('#text button')].map((token) => token.textContent)")

    def written(self, count=None):
        """Waits for the end of what is written, and gives its tokens."""
        self.until(lambda: "tokens written" in self.text("status") or "Error" in self.text("status"))
        assert "Error" not in self.text("status"), self.text("status")
        if count is not None:
            self.until(lambda: len(self.tokens()) == count)
        return self.tokens()

    def set(self, name, value):
        self.driver.execute_script(
            "const field = document.getElementById(arguments[0]); field.value = arguments[1];"
            "field.dispatchEvent(new Event('change', {bubbles: true}));", name, str(value))

    def keys(self, *keys):
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def focused(self):
        return self.driver.switch_to.active_element

    def tab_to(self, name):
        """Presses Tab until the field of this name has the focus."""
        for _ in range(60):
            self.keys(Keys.TAB)
            if self.focused().get_attribute("id") == name:
                return
        raise AssertionError(f"Tab does not lead to {name}")

    def quiet(self):
        """Nothing was said in the console."""
        said = self.driver.get_log("browser")
        assert not said, said

    def axe(self, file):
        if not file:
            return "axe was not asked"
        self.driver.execute_script(pathlib.Path(file).read_text())
        found = self.driver.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
        serious = [v for v in found["violations"] if v["impact"] in ("serious", "critical")]
        assert not serious, [(v["id"], v["help"], [node["html"] for node in v["nodes"]]) for v in serious]
        return f"axe {found['testEngine']['version']}: {len(found['violations'])} minor findings {[v['id'] for v in found['violations']]}"


def talk(page):
    """Type, stream, branch, clamp."""
    page.at("prompt").send_keys("the dog")
    # How long the text was at each look, some milliseconds apart.
    page.driver.execute_script("window.seen = []; setInterval(() => seen.push(tokens.length), 2)")
    page.set("length", 3000)
    page.at("write").click()
    page.written(3000)
    seen = set(page.driver.execute_script("return seen")) - {0, 3000}
    assert len(seen) >= 2, f"it did not come as it was written: {seen}"
    # Escape stops a long one; the driver's own key may come too late for a fast model.
    page.set("length", 8000)
    page.driver.execute_script("""const wait = setInterval(() => {
        if (!running || tokens.length <= 20) return;
        clearInterval(wait);
        document.dispatchEvent(new KeyboardEvent("keydown", {key: "Escape"}));
    }, 1)""")
    page.at("write").click()
    page.until(lambda: "Stopped after" in page.text("status"))
    assert len(page.tokens()) < 8000
    page.set("length", 20)
    page.at("write").click()
    first = page.written(20)
    assert page.at("map").size["height"] > 10 and "20 tokens" in page.at("map").get_attribute("aria-label")
    # The same again is the same.
    page.at("write").click()
    assert page.written(20) == first
    # Another one in the place of the sixth.
    page.driver.find_elements(By.CSS_SELECTOR, "#text button")[5].click()
    others = page.driver.find_elements(By.CSS_SELECTOR, "#alternatives button")
    assert len(others) == 8
    names = [other.find_element(By.TAG_NAME, "span").text for other in others]
    place = next(i for i, name in enumerate(names) if name.strip() not in ("", "\\n", first[5].strip()))
    others[place].click()
    branched = page.written(20)
    assert branched[:5] == first[:5] and branched[5].strip() == names[place].strip(), (branched, names[place])
    # A unit that is held changes the text, and a free one gives it back.
    page.driver.execute_script("document.getElementById('clamping').open = true")
    page.set("clamp-layer", page.driver.execute_script("return models[0].layers - 1"))
    page.set("clamp-value", 10)
    page.at("clamp-add").click()
    clamped = page.written(20)
    assert clamped != first, "a clamped unit changes nothing"
    page.until(lambda: page.text("without-text").startswith("the dog") and len(page.text("without-text")) > 20)
    page.driver.find_element(By.CSS_SELECTOR, "#clamps button").click()
    assert page.written(20) == first
    return seen


def by_keyboard(page):
    """The whole way without a mouse."""
    page.driver.get(page.address)
    page.until(lambda: page.text("status") == "Ready.")
    page.tab_to("prompt")
    page.keys("a cat")
    webdriver.ActionChains(page.driver).key_down(Keys.CONTROL).send_keys(Keys.ENTER).key_up(Keys.CONTROL).perform()
    page.written(80)
    for _ in range(60):
        page.keys(Keys.TAB)
        if page.focused().find_elements(By.XPATH, "parent::div[@id='text']"):
            break
    page.keys(*[Keys.ARROW_RIGHT] * 3, Keys.ENTER)
    page.until(lambda: page.at("choices").is_displayed())
    kept = page.tokens()[:3]
    page.keys(Keys.TAB, Keys.TAB, Keys.ENTER)
    page.until(lambda: len(page.tokens()) > 4)
    page.written(80)
    assert page.tokens()[:3] == kept


def main():
    parser = serving.options(__doc__.splitlines()[0])
    parser.add_argument("--axe", help="axe.min.js of axe-core")
    parser.add_argument("--pictures", help="a folder for pictures of the page")
    given = parser.parse_args()
    with serving.model(given) as run, tempfile.TemporaryDirectory() as profile:
        runs = str(pathlib.Path(run).parent)
        with serving.server(given, run, "--runs", runs) as (address, _):
            driver = browser(profile)
            try:
                driver.set_window_size(1200, 1400)
                page = Page(driver, address)
                seen = talk(page)
                print("talked; lengths seen while it wrote 3,000 tokens:", len(seen))
                by_keyboard(page)
                print("the same by keyboard")
                page.until(lambda: page.at("curve").is_displayed())
                driver.find_element(By.CSS_SELECTOR, "[data-run]").send_keys(Keys.ENTER)
                time.sleep(2.5)
                assert page.focused().get_attribute("data-run"), "the table of runs was read again, and the focus was lost"
                pictures = pathlib.Path(given.pictures or profile)
                pictures.mkdir(exist_ok=True)
                page.driver.execute_script("document.querySelectorAll('details').forEach((part) => part.open = true)")
                page.driver.find_elements(By.CSS_SELECTOR, "#text button")[6].click()
                for scheme in ["light", "dark"]:
                    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
                    for width in [1200, 375]:
                        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 1500, "deviceScaleFactor": 1, "mobile": False})
                        time.sleep(0.3)
                        wide = driver.execute_script("return document.documentElement.scrollWidth")
                        assert wide <= width, f"{wide} px at {width}"
                        print(scheme, width, page.axe(given.axe))
                        driver.save_screenshot(str(pictures / f"page-{scheme}-{width}.png"))
                page.quiet()
                driver.get(f"{address}/docs")
                page.until(lambda: "/v1/score" in driver.find_element(By.ID, "api").text)
                print("docs", page.axe(given.axe))
                page.quiet()
            finally:
                driver.quit()
    print("the page does what it should; nothing was said in the console")


if __name__ == "__main__":
    main()
