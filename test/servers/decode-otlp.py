# Exports of OTLP, decoded by OpenTelemetry's own definitions: a line of "SIGNAL BASE64" in, a line of JSON out.
import base64
import json
import sys

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

REQUESTS = {"metrics": ExportMetricsServiceRequest, "traces": ExportTraceServiceRequest, "logs": ExportLogsServiceRequest}

for line in sys.stdin:
    signal, body = line.split()
    request = REQUESTS[signal]()
    request.ParseFromString(base64.b64decode(body))
    print(json.dumps(MessageToDict(request)))
