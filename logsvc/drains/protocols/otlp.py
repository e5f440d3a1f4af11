"""OTLP/HTTP logs in protobuf: `ExportLogsServiceRequest` of opentelemetry-proto, POSTed to `/v1/logs`.

A resource is a stream (`service.name` the app, `service.instance.id` the dyno), a log record a line. Lines of two
streams that alternate make as many resources, so that order is kept.
"""

from collections.abc import Mapping, Sequence

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from logsvc.drains.policy import Rejected
from logsvc.drains.protocols import Framed
from logsvc.formats import cri
from logsvc.model import Selection, Stream


class Otlp:
    """The OpenTelemetry protocol over HTTP."""

    path = "/v1/logs"
    content_type = "application/x-protobuf"

    def frame(self, selections: Sequence[Selection]) -> Framed:
        request = ExportLogsServiceRequest()
        stream, records, count = None, None, 0
        for selection in selections:
            if records is None or selection.chunk.stream is not stream:
                stream = selection.chunk.stream
                logs = request.resource_logs.add(resource=_resource(stream))
                scope = logs.scope_logs.add()
                scope.scope.name = "logsvc"
                records = scope.log_records
            made = _records(selection)
            records.extend(made)
            count += len(made)
        return Framed(request.SerializeToString(deterministic=True), count)

    def headers(self, frame_id: str, framed: Framed) -> Mapping[str, str]:  # noqa: ARG002 - the body has its count
        return {"Idempotency-Key": frame_id}

    def rejected(self, body: bytes) -> Rejected | None:
        """Partial success: the receiver keeps the rest, and asks not to be sent it again."""
        try:
            partial = ExportLogsServiceResponse.FromString(body).partial_success
        except DecodeError:
            return None  # an answer in another form; its status said yes
        if partial.rejected_log_records <= 0:
            return None
        return Rejected(partial.rejected_log_records, partial.error_message)


def _records(selection: Selection) -> list[LogRecord]:
    observed = selection.chunk.appended * 1_000_000
    made = []
    for line in cri.lines(selection.value):
        time, stream, _, message = cri.parse(line)
        made.append(
            LogRecord(
                time_unix_nano=max(0, cri.time_ns(time)),
                observed_time_unix_nano=observed,
                body=AnyValue(string_value=message.decode("utf-8", "replace")),
                attributes=[_attribute("log.iostream", stream.decode())],
            )
        )
    return made


def _resource(stream: Stream) -> Resource:
    names = {
        "service.namespace": stream.tenant,
        "service.name": stream.app,
        "service.instance.id": stream.dyno,
        "logsvc.process": stream.process,
        "logsvc.source": stream.source,
    }
    return Resource(attributes=[_attribute(name, value) for name, value in names.items()])


def _attribute(name: str, value: str) -> KeyValue:
    return KeyValue(key=name, value=AnyValue(string_value=value))
