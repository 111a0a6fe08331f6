"""What schemathesis does not know by itself: how bodies that are bytes are sent."""

import schemathesis


@schemathesis.serializer("application/x-protobuf", "application/octet-stream")
def raw_bytes(ctx, value):
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")
