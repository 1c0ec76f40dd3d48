"""The page in a real browser."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from pyg_mmrec.serve import Catalogue, create_app

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def address(catalogue: Catalogue) -> Iterator[str]:
    """The address of the running service."""
    uvicorn = pytest.importorskip("uvicorn")
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(catalogue), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


def until(is_so: Callable[[], bool]) -> None:
    """Waits for something to become true; the page's policy forbids the driver's own way."""
    for _ in range(200):
        if is_so():
            return
        time.sleep(0.05)
    pytest.fail("waited in vain")


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page(address: str, browser: Any, catalogue: Catalogue, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 844})
    troubles: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))

    page.goto(f"{address}/?user=u%2F3")
    page.wait_for_selector("#recommendations li")
    _, items = catalogue.retriever(torch.tensor([3]), 12)
    names = page.locator("#recommendations .name").all_inner_texts()
    assert names == [str(100 + item) for item in items[0].tolist()]
    assert page.locator("#history li").count() == 5
    assert "BPRMF on toy, 40 users, 30 items" in page.inner_text("#model")
    assert page.evaluate("document.documentElement.scrollWidth") == width  # nothing is cut off on a phone
    pictures = page.locator("#recommendations img")
    pictures.last.scroll_into_view_if_needed()
    until(lambda: pictures.evaluate_all("all => all.every(image => image.complete && image.naturalWidth)"))
    assert pictures.count() == sum(item != 3 for item in items[0].tolist())

    why = page.locator("#recommendations .why").first
    why.click()
    page.wait_for_selector(".reasons")
    assert why.get_attribute("aria-expanded") == "true"
    why.click()
    page.wait_for_selector(".reasons", state="detached")

    length = page.evaluate("history.length")
    page.click("#other")
    until(lambda: page.evaluate("history.length") == length + 1)
    page.go_back()
    until(lambda: page.title().endswith("u/3"))
    assert troubles == []
    assert all(url.startswith(f"{address}/") or url.startswith("data:") for url in asked)

    page.fill("#user", "<b>nobody</b>")
    page.click("text=Show")
    page.wait_for_selector("#status.error")
    assert page.inner_text("#status") == "there is no user '<b>nobody</b>'"
    assert page.locator("#recommendations").is_hidden()
    page.close()
