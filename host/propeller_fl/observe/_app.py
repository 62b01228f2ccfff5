"""``/metrics``, ``/healthz`` and ``/readyz``.

``GET /metrics``  what Prometheus scrapes, in the text format that its Accept header asks for
``GET /healthz``  200 while every service runs, else 503; for who would restart it
``GET /readyz``   200 while the broker is connected and the stores can be written, else 503 and
                  what is amiss; for who sends work here. A coordinator that takes turns says
                  whether it is the leader or stands by
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from propeller_fl.observe._metrics import Metrics
from propeller_fl.observe._readiness import Readiness


def observe_app(
    metrics: Metrics, readiness: Readiness, failure: Callable[[], BaseException | None]
) -> Starlette:
    """The routes as an ASGI application; ``failure`` is what ended a service, if something has."""

    def scrape(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(metrics.registry), headers={"content-type": content_type})

    def health(request: Request) -> Response:
        failed = failure() is not None  # why is in the log: nobody needs a token to ask here
        return JSONResponse({"status": "failed" if failed else "ok"}, 503 if failed else 200)

    def ready(request: Request) -> Response:
        amiss = readiness.amiss()
        return JSONResponse(
            {"ready": not amiss, "amiss": amiss, **readiness.places()}, 503 if amiss else 200
        )

    app = Starlette(
        routes=[
            Route("/metrics", scrape),
            Route("/healthz", health),
            Route("/readyz", ready),
        ]
    )
    app.router.redirect_slashes = False
    return app
