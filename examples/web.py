"""Takes orders and hands them to the workers. Logs each request on a line."""

import asyncio
import itertools
import os
import sys
import time

from aiohttp import web
from aiohttp.typedefs import Handler
from shop import PRICES

BACKLOG = 20

numbers = itertools.count(1)
orders: asyncio.Queue[dict] = asyncio.Queue(BACKLOG)


@web.middleware
async def log_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    began = time.perf_counter()
    try:
        response = await handler(request)
        status, size = response.status, response.content_length or 0
    except web.HTTPException as error:
        status, size = error.status, error.content_length or 0
        raise
    finally:
        level = "info" if status < 500 else "error"
        took = (time.perf_counter() - began) * 1000
        print(f'at={level} method={request.method} path="{request.path}" {status=} service={took:.0f}ms bytes={size}')
    return response


async def take_order(request: web.Request) -> web.Response:
    order = await request.json()
    if order["product"] not in PRICES:
        raise web.HTTPNotFound(text=f"there is no {order['product']}")
    if orders.full():
        print(f"warning: {BACKLOG} orders wait, is there a worker?", file=sys.stderr)
        raise web.HTTPServiceUnavailable
    order["number"] = next(numbers)
    orders.put_nowait(order)
    return web.json_response(order, status=201)


async def next_order(_: web.Request) -> web.Response:
    return web.json_response(await orders.get())


async def menu(_: web.Request) -> web.Response:
    return web.json_response(PRICES)


app = web.Application(middlewares=[log_requests])
app.add_routes([web.get("/", menu), web.post("/orders", take_order), web.get("/orders/next", next_order)])

if __name__ == "__main__":
    port = int(os.environ["PORT"])
    print(f"Listening on http://127.0.0.1:{port}", flush=True)
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None, shutdown_timeout=1)
