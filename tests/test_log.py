from __future__ import annotations

import io
import json
import logging

import pytest

from propeller_fl import log


@pytest.mark.parametrize("as_json", [False, True])
def test_an_event_is_one_line_with_its_ids(as_json: bool) -> None:
    stream = io.StringIO()
    log.configure("info", as_json=as_json, stream=stream)
    logger = logging.getLogger("propeller_fl.coordinator.test")
    try:
        logger.info("two\nlines", extra={"round_id": "r-1", "proplet_id": "p-1"})
        logger.debug("not shown")
    finally:
        log.configure("warning")
    [line] = stream.getvalue().splitlines()
    if as_json:
        event = json.loads(line)
        assert (event["message"], event["round_id"], event["proplet_id"]) == (
            "two\nlines",
            "r-1",
            "p-1",
        )
        assert event["level"] == "info"
    else:
        assert "coordinator" in line
        assert "round_id=r-1 proplet_id=p-1" in line
