"""`DELETE /v1/apps/{app}/logs`: an operator removes for good what an app has written until now."""

from aiohttp import web

from logsvc.access.audit import audit
from logsvc.api.context import CONTEXT
from logsvc.api.guard import GRANT
from logsvc.api.logs import require_app, timeline_of
from logsvc.api.query import check_names


async def delete_logs(request: web.Request) -> web.Response:
    """202, with the place that the log begins at from now on: nobody reads what is in front of it any more.

    Rows are deleted from the store soon after, by whoever stores.
    """
    check_names(request.query, ())
    context = request.app[CONTEXT]
    timeline = timeline_of(request, context)
    await require_app(timeline, context)
    purge = await context.remove(timeline.app)
    audit(
        "purge",
        subject=request[GRANT].subject,
        tenant=timeline.app.tenant,
        app=timeline.app.app,
        before=str(purge.before),
    )
    return web.json_response({"before": str(purge.before)}, status=202)
