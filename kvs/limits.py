"""Every bound of a node that is not a setting, with its unit last in the name and its reason beside it."""

# --- keys and values ---

KEY_MAX_BYTES = 1024
CONTENT_TYPE_MAX_BYTES = 255
"""Its length is one byte in a stored record."""
NODE_ID_MAX_BYTES = 255
"""Its length is one byte in a stored record."""
OWNER_MAX_BYTES = 255

COMPRESS_MIN_BYTES = 128
"""A zstd frame costs about 13 bytes; below this size JSON almost never gets smaller and the attempt costs 5 µs."""
DECOMPRESSED_MAX_BYTES = 64 * 1024 * 1024
"""No stored value is larger than `max_blob_size`, which may not exceed this."""
OFFLOAD_MIN_BYTES = 64 * 1024
"""Values from this size on are compressed in a thread, answers are sent without copying them behind their header, and
after so many bytes of bulk items other requests have a turn. JSON is checked on the event loop whatever its size: see
`parse_json`."""

TTL_MAX_MS = 100 * 365 * 24 * 3600 * 1000

EXPIRY_GRACE_MS = 2 * 60 * 1000
"""An expired record leaves the disk this long after `expires_at`: twice the default `max_clock_drift`, so that by then
every node's clock agrees that it is over."""

GC_YOUNG_MAX = 20_000
"""Objects made before Python looks for garbage cycles. Requests make next to none; at 700 they cost 6 %."""

# --- accounts ---

TOKEN_MAX_BYTES = 4 * 1024
TOKEN_CLOCK_SKEW_MS = 60 * 1000
"""How far in the future a token may have been issued: the clocks of two nodes differ. Its end is exact."""
TOKEN_DEFAULT_LIFE_MS = 60 * 60 * 1000
TOKEN_LIFE_MIN_MS = 1000
ROOT_TOKEN_LIFE_MS = 24 * 60 * 60 * 1000
LOCAL_TOKEN_LIFE_MS = 60 * 1000
NAME_MAX_BYTES = 255
PASSWORD_MIN_CHARS = 8
PASSWORD_MAX_BYTES = 1024
PASSWORD_CHECKS_MAX = 2
"""Under way at one time; each holds 64 MiB."""
GROUPS_PER_USER_MAX = 256
MEMBERS_PER_GROUP_MAX = 10_000
ACCOUNT_BODY_MAX_BYTES = 1024 * 1024
TOKEN_CACHE_MAX_ENTRIES = 10_000
LOGIN_WINDOW_S = 60
LOGIN_PER_ACCOUNT_MAX = 10
LOGIN_PER_ADDRESS_MAX = 30
LOGIN_TRACKED_MAX = 10_000
"""Accounts and addresses whose attempts are counted; the oldest are forgotten."""

# --- one group commit ---

GROUP_GATHER_TURNS = 3
"""Turns of the event loop before a group is closed; some microseconds each when nothing else is to do."""
GROUP_MAX_WRITES = 2_000
GROUP_MAX_BYTES = 8 * 1024 * 1024
"""A group stops growing here, so that one fsync never waits for an endless batch. One larger write still goes alone."""
WAITING_MAX_BYTES = 256 * 1024 * 1024
"""Values waiting for their commit; beyond it new writes are told to come back (503 `overloaded`)."""

# --- recovery after a failed write ---

RECOVERY_RETRY_MIN_MS = 500
RECOVERY_RETRY_MAX_MS = 5_000
RECOVERY_RESERVE_BYTES = 1024 * 1024
"""Free room that a reopening needs beside the size of the log, which LevelDB writes out as a table."""

# --- LevelDB -------------------------------------------------------------------------------------------------------

LEVELDB_WRITE_BUFFER_BYTES = 8 * 1024 * 1024
LEVELDB_CACHE_BYTES = 32 * 1024 * 1024
LEVELDB_OPEN_FILES_MAX = 256
LEVELDB_BLOOM_BITS = 10

# --- HTTP: requests ---

CONNECTIONS_MAX = 4_096
OPEN_FILES_WANTED = CONNECTIONS_MAX + LEVELDB_OPEN_FILES_MAX + 256
"""Each connection is an open file; the last part is for everything else."""
REQUEST_LINE_MAX_BYTES = 16 * 1024
"""A key of 1,024 bytes with every byte percent-encoded is 3 KiB; cursors and filters come on top."""
HEADER_MAX_BYTES = 8 * 1024
HEADERS_MAX_COUNT = 100
HEADER_TIMEOUT_S = 10.0
"""From the first byte of a request (or from connecting) until its headers are complete."""
KEEPALIVE_TIMEOUT_S = 75.0
BODY_TIMEOUT_S = 30.0
BODY_MIN_BYTES_PER_S = 32 * 1024
"""A body may take BODY_TIMEOUT_S plus its declared size at this rate."""
RESPONSE_STALL_TIMEOUT_S = 30.0
"""A client that takes too little of its response in this time is cut off: less than at the rate below."""
RESPONSE_MIN_BYTES_PER_S = 4 * 1024
"""16 MiB may take an hour, for sites behind slow links; who is slower than that only holds the memory."""
LINGER_TIMEOUT_S = 2.0
"""How long the rest of a refused body is read and thrown away, so that the client sees the answer."""
SHUTDOWN_TIMEOUT_S = 6.0
"""Requests under way may take this long after SIGTERM; what remains of 10 s is for the store."""
REQUEST_ID_MAX_BYTES = 128
SLOW_REQUEST_MS = 1_000
"""Requests from this duration on are logged at `info`."""
QUERY_PARAMETERS_MAX_COUNT = 32
ETAGS_MAX_COUNT = 64

# --- HTTP: reading and writing many ---

PAGE_DEFAULT_ENTRIES = 100
PAGE_MAX_ENTRIES = 1_000
PAGE_MAX_BYTES = 8 * 1024 * 1024
"""A page of values ends early here; the cursor goes on after it."""
PAGE_MAX_SCANNED = 4_000
"""Stored entries looked at for one page, deleted and expired ones too: a page never holds the loop for long."""
LIST_DEPTH_MAX = 512
DELIMITER_MAX_BYTES = 16
METADATA_MAX_BYTES = 16 * 1024
BULK_MAX_ITEMS = 10_000
BULK_MAX_BYTES = 32 * 1024 * 1024

# --- background work ---

SWEEP_MAX_KEYS = 500
"""Keys in one sweep command; a sweep goes on with the next ones after that commit."""
EXPIRY_SWEEP_INTERVAL_S = 10
TOMBSTONE_SWEEP_INTERVAL_S = 60
REVISION_SWEEP_INTERVAL_S = 600
