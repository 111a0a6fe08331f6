"""What schemathesis does not know by itself: how bodies that are bytes are sent, and what there is to name."""

import json
import os
import re

import schemathesis

# What the body of an operation may name, by its field.
KNOWN = json.loads(os.environ.get("CONTRACT_KNOWN", "{}"))
DIGEST = re.compile("sha256:[0-9a-f]{64}")


@schemathesis.serializer("application/x-protobuf", "application/octet-stream")
def raw_bytes(ctx, value):
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


@schemathesis.hook
def map_body(context, body):
    """Names what is there where the body names something; what is drawn hardly ever is."""
    known = KNOWN.get(context.operation.definition.raw.get("operationId"), {})
    if not isinstance(body, dict):
        return body
    # A scan that is no digest is to be refused as it is.
    there = {
        field: value
        for field, value in known.items()
        if isinstance(body.get(field), str) and (field != "scan" or DIGEST.fullmatch(body[field]))
    }
    return {**body, **there}
