"""What the formats of Berth's document look like that schemathesis does not know."""

import schemathesis
from hypothesis import strategies as st

schemathesis.openapi.format("timezone", st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]))
schemathesis.openapi.format("cron", st.sampled_from(["0 9 * * *", "*/30 * * * *", "15 3 1 * *", "0 0 * * 1-5"]))
