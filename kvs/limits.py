"""Every bound of a node that is not a setting, with its unit last in the name and its reason beside it."""

# --- keys and values ---

KEY_MAX_BYTES = 1024
KEYS_REMEMBERED_MAX = 16_384
"""Keys that were found valid; some 8 MB when all of them are as long as may be."""
KEY_REMEMBERED_MAX_CHARS = 128
"""As they stand in a path."""
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

SHOWN_MAX_ENTRIES = 4_096
"""Values that are remembered as readers get them; some 10 MB when all of them are as large as may be."""
SHOWN_MAX_BYTES = 512
"""Of the stored record and its key."""

TTL_MAX_MS = 100 * 365 * 24 * 3600 * 1000

EXPIRY_GRACE_MS = 2 * 60 * 1000
"""An expired record leaves the disk this long after `expires_at`: twice the default `max_clock_drift`, so that by then
every node's clock agrees that it is over."""
EXPIRY_STEP_MS = 10 * 1000
"""Expired records leave at whole steps of the wall clock: all nodes drop the same ones at the same moment, and their
Merkle trees stay alike."""

GC_YOUNG_MAX = 20_000
"""Objects made before Python looks for garbage cycles. Requests make next to none; at 700 they cost 6 %."""
HEAP_MAPPED_MIN_BYTES = 1024 * 1024
"""Larger blocks of memory go back to the system as soon as they are freed: below it the system's work would show."""
HEAP_KEPT_BYTES = 8 * 1024 * 1024
"""Free memory at the end of the heap up to this size stays with the process: it will be wanted again soon."""

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
PASSWORD_CHECKS_WAITING_MAX = 64
"""Those under way included: some seconds' worth. Others are told to come back (503 `overloaded`)."""
ACCOUNTS_PER_TURN = 16
"""Users or groups that are looked at, for what a list of the others shows, before other requests get their turn."""
GROUPS_PER_USER_MAX = 256
SCOPES_MAX = 64
"""Of a user or a token that another node brings; there are fewer."""
MEMBERS_PER_GROUP_MAX = 10_000
ACCOUNT_BODY_MAX_BYTES = 1024 * 1024
TOKEN_CACHE_MAX_ENTRIES = 10_000
LOGIN_WINDOW_S = 60
LOGIN_PER_ACCOUNT_MAX = 10
LOGIN_PER_ADDRESS_MAX = 30
LOGIN_TRACKED_MAX = 10_000
"""Accounts, and addresses, whose attempts are counted one by one."""

# --- one group commit ---

THREAD_SWITCH_INTERVAL_S = 0.0001
"""How long a thread waits for the interpreter's lock before the one that has it must give it up. By default that is
5 ms, and the wait begins anew whenever the event loop looks for I/O: beside a loop that is never idle, a commit took up
to half a second."""
GROUP_GATHER_TURNS = 3
"""Turns of the event loop before a group is closed; some microseconds each when nothing else is to do."""
GROUP_MAX_WRITES = 2_000
GROUP_MAX_BYTES = 8 * 1024 * 1024
"""A group stops growing here, so that one fsync never waits for an endless batch. One larger write still goes alone."""
WAITING_MAX_BYTES = 256 * 1024 * 1024
"""Values waiting for their commit; beyond it new writes are told to come back (503 `overloaded`)."""

# --- secrets ---

SECRET_BYTES = 32
SECRET_MIN_BYTES = 16

# --- certificates ---

CERTIFICATE_WARNING_DAYS = 30
"""From so many days before its end on a certificate is warned of, at the start and once a day."""
CERTIFICATE_CHECK_INTERVAL_S = 86_400
CERTIFICATE_BACKDATE_S = 3_600
"""Certificates begin so long before they are issued, for hosts whose clocks are behind."""

# --- the Merkle tree ---

RUN_ITEMS_MEAN = 256
RUN_ITEMS_MAX = 2_048
"""A run is read whole when a range ends in it; longer ones than this are as good as never made by chance."""
RUNS_FOR_A_COARSE_SPLIT = 8
"""Ranges of so many whole runs are cut between runs, others between items."""

TREE_BUILD_BATCH = 5_000
"""Records of one commit while the tree of a node is made that was alone before."""

# --- comparing and sending records between nodes ---

ENTRY_MAX_BYTES = KEY_MAX_BYTES + 64
"""An entry key: a user's key, or one of KVS's own, of which metadata have the longest."""
PRINT_BYTES = 6
"""What travels of a fingerprint or an item. Peers hold the cluster secret, so only chance makes two alike: one in 10^9
for a comparison of 100,000 parts, and the next comparison has other parts."""
DIFF_RANGES_MAX = 2_048
DIFF_RANGES_PER_TURN = 16
"""Ranges that are looked at before other requests get their turn: some milliseconds."""
DIFF_ROOT_PARTS = 256
"""A lone range, which is mostly the whole, is cut finely: it saves a round trip for 4 KB."""
DIFF_PARTS = 16
DIFF_LIST_BELOW = 32
DIFF_LIST_BELOW_LATE = 160
"""Ranges with fewer items are listed instead of cut; in late rounds longer ones too, which ends the descent."""
DIFF_EARLY_ROUNDS = 3
DIFF_KEYS_MAX = DIFF_RANGES_MAX * DIFF_LIST_BELOW_LATE
FETCH_KEYS_MAX = 1_000
SEND_MAX_BYTES = 4 * 1024 * 1024
"""Records in one message, by what their values unpack to, which is what they cost whoever takes them; one larger record
still goes alone."""

PEER_BODY_MAX_BYTES = 128 * 1024 * 1024
"""A message between nodes: one value of the largest size, with room."""
PEER_REFUSAL_MAX_BYTES = 64 * 1024
PEER_PACK_MIN_BYTES = 1_024
PEER_CONNECT_TIMEOUT_S = 3.0
PUSH_TIMEOUT_S = 10.0
DIFF_TIMEOUT_S = 15.0
"""For the answer to a question about ranges, which is small: other peers wait while one hangs."""
COMPARE_TIMEOUT_S = 60.0
"""For the answer to one about records."""
NONSENSE_MAX = 20
NONSENSE_WINDOW_MS = 60_000
CUT_OFF_MS = 300_000
"""A daemon at fault repeats itself: so many messages that cannot be, within the window, and it is not answered for a
while. Comparisons with it have their own, growing pause."""
OUTBOX_MAX_RECORDS = 20_000
OUTBOX_MAX_BYTES = 16 * 1024 * 1024
"""Records of users that wait for one peer, the largest of them not counted, and as many of KVS's own; beyond it the
peer is left to a comparison."""
PUSH_TO_ALL_MAX = 10
"""Members up to which every write goes straight to all."""
PUSH_FANOUT = 3
"""To how many a node sends a write in larger clusters."""
PUSH_FIRST_MORE = 2
"""To how many more where the write is made."""
COMPARE_SOON_MS = 500
BOOTSTRAP_RETRY_MS = 1_000
"""Until a node that is being filled asks again for what its disk did not take."""
BOOTSTRAP_TOGETHER_MS = 200
"""Until it asks again peers that are all to be filled and met nobody who was: one of them may have met one just now."""
COMPARE_RETRY_MIN_MS = 1_000
COPIES_TIMEOUT_MS = 5_000
COPIES_TIMEOUT_MAX_MS = 60_000
"""How long a write waits for other nodes when its client asks for copies (`w`)."""
LAST_PROOF_SAVE_STEP_MS = 3_600_000
"""How far the latest proof goes ahead of the one on the disk, where nothing else has the floor saved."""
FLOOR_SAVE_STEP_MS = 60_000
"""The floor is stored each time it has risen so much; what a crash forgets is proven again."""
LEAVE_TIMEOUT_S = 2.0
"""How long a node that stops waits for others to hear of it."""
SESSION_KEYS_MAX = 100_000
"""Records that one comparison moves; the next one goes on."""
LEFT_TO_PUSH_MS = 2_000
"""Records younger than this are on their way already."""
TIMESTAMP_MAX = 1 << 48
"""No version that a peer sends may be later (the year 10889): behind it there would be no room for newer ones."""

MOMENT_MAX_MS = 253_402_300_799_999
"""The end of the year 9999, behind which RFC 3339 has no words."""

# --- the audit log ---

AUDIT_NUMBER_MAX = (1 << 53) - 1
"""Entries and heads of a log: what every reader of JSON holds exactly."""
AUDIT_TICK_S = 10
"""How often what is new in the log is gathered for its head, and heads go to peers that lack them."""
AUDIT_SLICE_ENTRIES = 250
"""Entries that are gathered before other requests get their turn: half a millisecond."""
AUDIT_PATH_MAX_CHARS = 256
"""Of the path of a refused request; keys are in the log as a whole."""
AUDIT_REFUSALS_WINDOW_S = 300
"""Refused requests of one address and user are in the log at once when they begin, then as a number once in this time.
"""
AUDIT_REFUSALS_TRACKED_MAX = 100
"""Addresses and users that are told apart at one time; all others are one. With the window above, whoever is refused
can write no more than 60,000 entries a day, some 10 MB."""
AUDIT_MERGES_WINDOW_S = 300
"""A backup comes into a running node in hundreds of requests. The first one of a user and backup is in the log at once,
those that follow as a number once in this time."""
AUDIT_MERGES_TRACKED_MAX = 100
"""Users and backups whose requests are counted at one time; each request of any other is an entry."""
AUDIT_UNWRITTEN_MAX = 1_000
"""Notes that wait for a disk that takes no writes; beyond it the newest are lost, and the log says how many."""
AUDIT_HEADS_PER_MESSAGE_MAX = 100
"""Four days of heads, some 150 KB."""
AUDIT_OFFER_MAX_BYTES = 512 * 1024
AUDIT_KEPT_HEADS_MAX = 4
"""Of one node: its present log, and ends of logs that the present one does not continue. The first ones stay, so that
nobody who makes up new logs gets rid of what speaks against him."""
AUDIT_KEPT_NODES_MAX = 1_000
"""As many as there can be members. Heads of nodes that are none any more make room."""
AUDIT_TELL_PEERS_MAX = 10
"""Peers that are told of a head at one time."""
AUDIT_TELL_TIMEOUT_S = 5.0
AUDIT_FINDINGS_MAX = 100
"""That are named when a log is verified; the others are counted."""
AUDIT_SEAL_TIMEOUT_S = 1.0
"""How long a node that stops gathers what has no head yet, and how long it then waits for peers to keep the last one.
"""

# --- recovery after a failed write ---

RECOVERY_RETRY_MIN_MS = 500
RECOVERY_RETRY_MAX_MS = 5_000
RECOVERY_RESERVE_BYTES = 1024 * 1024
"""Free room that a reopening needs beside the size of the log, which LevelDB writes out as a table."""

# --- LevelDB -------------------------------------------------------------------------------------------------------

LEVELDB_WRITE_BUFFER_BYTES = 16 * 1024 * 1024
LEVELDB_LOG_AHEAD_BYTES = 512 * 1024
"""Zeros in front of what is written to the log, see storage/leveldb_log.py."""
LEVELDB_CACHE_BYTES = 8 * 1024 * 1024
LEVELDB_OPEN_FILES_MAX = 100
"""LevelDB keeps ten fewer tables open, and maps each into memory, 2 MiB: they count as resident. Where there are more,
a read that goes elsewhere opens one first, for 8 µs."""
LEVELDB_BLOOM_BITS = 10

# --- HTTP: requests ---

CONNECTIONS_MAX = 4_096
LISTEN_BACKLOG = 1_024
"""Connections that the kernel holds ready until the node takes them. Who finds no place tries again a second later."""
ACCEPT_RETRY_PAUSE_S = 1.0
"""When the system cannot give a connection: it has no open file left, say."""
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
HANDSHAKE_TIMEOUT_S = 10.0
"""From connecting until TLS is agreed on; the deadline for the first request begins behind it."""
HANDSHAKE_LINE_INTERVAL_S = 10.0
"""The log tells of TLS handshakes that fail at most so often."""
BODIES_ARRIVING_MAX_BYTES = 32 * 1024 * 1024
"""Bodies of clients that are being received, by what they declare; the next one waits for its place."""
BODIES_WAITING_MAX = 32
"""Each that waits has sent what the kernel and the parser hold; beyond it 503 `overloaded`."""
BODY_FREE_BYTES = 16 * 1024
"""Bodies up to this size need no place: all connections together have no more of them than of the others."""
ANSWERS_LEAVING_MAX_BYTES = 64 * 1024 * 1024
"""Answers that clients are taking; beyond it further reads wait."""
ROOM_TIMEOUT_S = 10.0
"""How long a request waits for a place; then 503 `overloaded`."""
PRESS_INTERVAL_S = 1.0
PRESSED_MIN_BYTES_PER_S = 256 * 1024
"""While others wait for a place, who moves less than this is cut off, the slowest first."""
TLS_PIECE_BYTES = 64 * 1024
"""Larger answers go over TLS in such pieces, each when the one before was taken."""
TLS_RECEIVE_BYTES = 32 * 1024
"""What the kernel is asked to hold of a TLS connection before it is read (Linux doubles it). uvloop reads all of that
at once and keeps two buffers of its size while the connection stands: without a bound 0.6 MB each, and with hundreds
of connections more than all bodies may have. Over a network with a round trip of 50 ms a client sends about 1 MB/s."""
TLS_ABORT_TIMEOUT_S = 1.0
"""How long a stop waits for the end of connections that it has cut off."""
LINGER_TIMEOUT_S = 2.0
"""How long the rest of a refused body is read and thrown away, so that the client sees the answer."""
SHUTDOWN_TIMEOUT_S = 6.0
"""Requests under way may take this long after SIGTERM; what remains of 10 s is for the store."""
REQUEST_ID_MAX_BYTES = 128
RATE_GROUPS_MAX = 32
"""The hits of a client are kept in so many groups: its limit is exact but for the hits of one of them."""
RATE_USERS_TRACKED_MAX = 10_000
RATE_ADDRESSES_TRACKED_MAX = 20_000
"""Users and addresses whose requests are counted one by one, some 300 to 600 bytes each. Others, if there are more than
these within one window, share those below."""
RATE_SHARED_WINDOWS = 1_024
RATE_LOOKED_AT = 4
"""Windows that a new client may find over, and take the place of one."""
JSON_DEPTH_MAX = 512
"""Levels of arrays and objects. What reads an answer has a bound of its own: Python's parsers stop near 990, msgspec
before that where the stack is deep already."""
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
REVISIONS_MAX = 1_000
"""What `max_revisions` may be."""
HISTORY_MAX_BYTES = 64 * 1024 * 1024
"""An answer with a history ends early here: three blobs of the largest size by default fit in."""
LIST_DEPTH_MAX = 512
DELIMITER_MAX_BYTES = 16
METADATA_MAX_BYTES = 16 * 1024
BULK_MAX_ITEMS = 10_000
BULK_MAX_BYTES = 32 * 1024 * 1024

# --- watching ---

WATCHERS_MAX = 2_048
"""Half of the connections: the others are for requests."""
WATCH_KEEPALIVE_S = 15
"""What proxies and clients take for a dead connection is silent for longer."""
WATCH_TICK_S = 1
"""How late a stream may end whose token has."""
WATCH_QUEUE_MAX_BYTES = 8 * 1024 * 1024
"""What may wait for one watcher before he is cut off; a single larger event still goes."""
WATCH_QUEUES_MAX_BYTES = 512 * 1024 * 1024
"""The same for all together: the more there are, the less may wait for each."""
WATCH_STEP_ROWS = 500
"""Rows and records that are looked at for one watcher who catches up, before others have a turn: some milliseconds. And
the events in one piece of what all are told."""
WATCH_STEP_BYTES = 256 * 1024
WATCH_SENDS_PER_TURN = 64
WATCH_TURN_MAX_BYTES = 1024 * 1024
"""Watchers who are written to, and what is written to them, before other requests have a turn: about a millisecond."""
WATCH_GATHER_MAX_EVENTS = 4_096
"""When so many events wait to be told, of each key only the newest is, and so on whenever they have doubled."""
WATCH_GATHER_MAX_BYTES = 64 * 1024 * 1024
"""What events that wait may take up; when half of it is newest events of their keys, who waits for them is cut off."""
WATCH_PAUSE_RATIO = 5
"""Telling watchers takes a sixth of the time at most: so much longer than it took is the pause behind it."""

# --- backups ---

SNAPSHOT_PORTION_ENTRIES = 250
SNAPSHOT_PORTION_BYTES = 256 * 1024
"""What a backup reads at one go; for so long it holds up who closes the store, and at times the event loop."""

BACKUP_ROWS_MAX = 500
BACKUP_ROWS_BYTES = 512 * 1024
"""Rows of one message of a backup; one larger row still goes alone."""
BACKUP_ROWS_MAX_BYTES = 66 * 1024 * 1024
"""The largest value with room for its fields and for the rows before it."""
BACKUP_HEADER_MAX_BYTES = 64 * 1024
BACKUP_ZSTD_LEVEL = 3
BACKUP_WINDOW_MAX_BYTES = 8 * 1024 * 1024
"""What zstd may look back on while it unpacks: RFC 8878 wants it of every decoder, level 3 uses 2 MiB."""

BACKUP_SYNC_BYTES = 4 * 1024 * 1024
"""A backup goes to the disk in such steps."""
BACKUP_FREE_MIN_BYTES = 64 * 1024 * 1024
BACKUP_FREE_MIN_PARTS = 20
"""A backup ends when it would leave less free on its disk than this, or than this part of a small disk: LevelDB needs
room for a log of 16 MiB and the tables that it makes of it."""
BACKUP_MISSED_DELAY_S = 60
"""From the start of a node to the backup that it missed while it did not run."""
BACKUP_LOOK_INTERVAL_S = 10
"""How late it may be seen that the clock was set, and with it the time of the next backup."""
BACKUP_REST_PARTS = 8
BACKUP_REST_MAX_MS = 200
"""Between two portions a backup rests this many times as long as other threads computed meanwhile, but no longer than
the second: beside a busy event loop it works a ninth of the time, on an idle node all of it. Measured: at 3 writes lost
30 % of their rate, at 8 10 %."""
BACKUP_WAIT_MS = 10_000
"""How long who asks for a backup waits for it to be done, if nothing else is asked."""
BACKUP_WAIT_MAX_MS = 600_000
BACKUP_MERGE_STEP = 100
"""Records of a backup that a living node takes in at one go; then others have their turn."""

RESTORE_WRITE_BUFFER_BYTES = 64 * 1024 * 1024
"""LevelDB's table in memory while a backup is restored into a new data directory: a process of its own, that ends."""
RESTORED_SEQ_STEP = 1 << 40
"""A restored node leaves out so many sequence numbers: those that the node gave out after the backup, and that others
may have seen, shall not come a second time."""

# --- background work ---

LOOP_LAG_INTERVAL_S = 0.1
"""How often the lag of the event loop is measured, some microseconds each."""
SWEEP_MAX_KEYS = 500
"""Keys in one sweep command; a sweep goes on with the next ones after that commit."""
EXPIRY_NOTE_INTERVAL_S = 1
"""How late watchers may hear that a value has expired."""
TOMBSTONE_SWEEP_INTERVAL_S = 60
REVISION_SWEEP_INTERVAL_S = 600

SCRUB_INTERVAL_S = 1
SCRUB_MAX_RECORDS = 128
SCRUB_MAX_BYTES = 256 * 1024
"""Values of one step, unpacked: about a millisecond, in which nobody else has a turn. A million records take two hours
and more."""
SCRUB_PAUSE_MS = 3_600_000
"""From the end of a pass to the next one."""

# --- membership ---

MEMBERS_MAX = 1_000
"""Nodes known at one time, this one and those that are remembered or removed included."""
ADDRESS_MAX_CHARS = 259
"""A host name of 253, a colon, five digits."""
INSTANCE_ID_MAX_CHARS = 64
MEMBER_NUMBER_MAX = (1 << 53) - 1
"""Incarnations and times of members: what every reader of JSON holds exactly."""
INCARNATION_CLAIMED_MAX = 1 << 52
"""What others may claim of a node that never said so much itself; it must be able to say more. As a time in ms it would
be far beyond the year 100,000."""
PING_MAX_BYTES = 32 * 1024
"""One with the most rumours, all of the longest, has 21 KiB."""
MEMBER_LIST_MAX_BYTES = 1024 * 1024
"""The longest list has 800 KB."""
RUMOURS_PER_MESSAGE_MAX = 20
INDIRECT_PROBES = 3
SUSPECTS_ASKED_MAX = 3
"""Suspects that are asked again in every interval, beside the peer whose turn it is."""
HEALTH_MAX = 8
"""The most by which a node that is unwell itself stretches its intervals and timeouts."""
LAG_MIN_MS = 50
"""An event loop this late is not worth a judgement; the limit is a quarter of `probe_timeout_ms` where that is more."""
RELAYS_MAX = 256
"""Peers that are pinged for others at one time."""
CHECKS_MAX = 16
"""Nodes known by rumour that are pinged at one time."""
CHECK_PINGS = 3
"""How often such a node is pinged before it counts as silent."""
CHECK_PAUSE_MIN_MS = 1_000
"""A node that did not answer a check is checked again after this, which doubles up to the next. One that has just
started may speak before it can be reached: who heard of it then would have to wait for the next exchange of lists."""
CHECK_PAUSE_MS = 10_000
CHECKS_AGAIN = 6
"""So many times, in half a minute; then only when it is spoken of again."""
CONTEST_PINGS = 2
"""How often the holder of an id is asked before another may have it."""
CONTEST_TIMEOUT_MS = 1_000
REFUSED_PAUSE_MS = 30_000
"""So long a clone is refused without asking the holder of its id again, and an alarm about it is not repeated."""
MEMBER_LIST_TIMEOUT_MS = 10_000
EXCHANGE_PEERS_MAX = 3
"""Each regular exchange of the member list is with 1 to this many peers."""
REUNION_PAUSE_MS = 5_000
"""An exchange with a peer that was down is not followed by the next such before this."""
RETRY_INTERVAL_MS = 60_000
BOOTSTRAP_SEEDS_MAX = 10
"""Addresses that a new node is given; any one of them tells it all others."""
RETRY_PEERS_MAX = 2
"""Of the nodes that are down, tried in each such interval."""
JOIN_PAUSE_MIN_MS = 1_000
JOIN_PAUSE_MAX_MS = 60_000
INTRODUCTION_TIMEOUT_S = 3.0
"""How long a start waits for the answers of those it asks, so that a taken id is told to whoever started the node."""
JOIN_SEEDS_MAX = 3
"""Seeds that are asked at one time."""
LEAVE_PEERS_MAX = 10
"""That hear of a leave from the node itself; the others hear it from these."""
MEMBERS_SAVE_DELAY_MS = 1_000
"""Nodes that become known are saved together, so that a cluster that starts as a whole does not wait for its disks; but
the first other one is saved at once."""
MEMBERS_SAVE_INTERVAL_MS = 3_600_000
"""When each member was last seen is saved this often."""
REMEMBER_MIN_MS = 24 * 3_600_000
"""A node that is silent is remembered at least so long after each start, however long ago it was seen before."""
