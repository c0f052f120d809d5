# Whether a request is signed as AWS has it, by AWS's own library for Python: JSON of the request in, the signature that it should have out.
import base64
import json
import sys

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

given = json.load(sys.stdin)
headers = given["headers"]
signed = given["signedHeaders"].split(";")
request = AWSRequest(
    method="POST",
    url=given["url"],
    data=base64.b64decode(given["body"]),
    headers={name: headers[name] for name in signed},
)
request.context["timestamp"] = headers["x-amz-date"]
auth = SigV4Auth(Credentials(given["id"], given["secret"]), given["service"], given["region"])
text = auth.string_to_sign(request, auth.canonical_request(request))
print(auth.signature(text, request))
