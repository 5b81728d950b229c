"""The audit log's bytes, pinned: logs outlive the program, and so does whoever wants to verify them."""

from kvs.cluster.audit_heads import NO_HEAD, Head, HeadKey, encode
from kvs.cluster.trail import Trail
from kvs.storage import keyspace
from kvs.storage.audit import first_rows, genesis, moment
from kvs.storage.memory import MemoryStore

LOG = "0f1e2d3c-4b5a-4978-a6b5-c4d3e2f10213"
USER = b"d34cdb10-90f0-4c06-ab8b-72a38fff0fff"
TEXTS = (
    b"1\n2023-11-14T22:13:20.000Z\ndata_write\nd34cdb10-90f0-4c06-ab8b-72a38fff0fff\nsite/a",
    b"2\n2023-11-14T22:13:20.000Z\nauth_failure\n\n10.0.0.7 GET /kv/site/a",
)
GENESIS = (
    "39fbac54cb9ce4686ffc270dc5f7a74c1f178199c172dab7f01d78de424dee89"
    "ca1af09958e61c15ee26fe28967b0b0f4f3923c2df5376c34f9895dfa332ef70"
)
SIGNATURES = (
    "6b222865780e8f44287e28bac1a2af9f71c69867272df8d6f3477da023dd565f"
    "d5a6b9fcf038ee9bc9533f1a48c249e026ca5e348a2b2cac11cb0149c086ff63",
    "d906180c580bc54b45a459c7afe9535e70de3c27852d36a2467e35ecb1521e5b"
    "b3d84d762d43ca9867ac9560b9ba9b03f99908f8834d81e4aa63681ba2a90286",
)


def test_entries() -> None:
    batch: dict[bytes, bytes | None] = {}
    store = MemoryStore()
    store.commit(dict(first_rows(LOG)))
    assert store.get(bytes.fromhex("6174")) == bytes(8) + bytes.fromhex(GENESIS)
    trail = Trail(LOG, (), store)
    lines = [(b"data_write", USER, b"site/a"), (b"auth_failure", b"", b"10.0.0.7 GET /kv/site/a")]
    tip = trail.extend(lines, 1_700_000_000_000, batch)
    assert genesis(LOG).hex() == GENESIS
    assert batch == {
        bytes.fromhex("6165" "0000000000000001"): bytes.fromhex(SIGNATURES[0]) + TEXTS[0],
        bytes.fromhex("6165" "0000000000000002"): bytes.fromhex(SIGNATURES[1]) + TEXTS[1],
        bytes.fromhex("6174"): bytes.fromhex("0000000000000002") + bytes.fromhex(SIGNATURES[1]),
    }  # fmt: skip
    assert tip == (2, bytes.fromhex(SIGNATURES[1]))


def test_times() -> None:
    assert moment(0) == b"1970-01-01T00:00:00.000Z"
    assert moment(1_700_000_000_007) == b"2023-11-14T22:13:20.007Z"
    assert moment(10**15) == b"9999-12-31T23:59:59.999Z"
    assert moment(-1) == b"1970-01-01T00:00:00.000Z"


def test_a_head() -> None:
    head = HeadKey(bytes(range(32))).sign(
        Head(
            node_id="node1",
            log=LOG,
            number=1,
            previous=NO_HEAD,
            first=1,
            last=2,
            root="ab" * 32,
            chain=SIGNATURES[1],
            oldest="2023-11-14T22:13:20.000Z",
            newest="2023-11-14T22:13:20.000Z",
            written="2023-11-14T23:00:04.000Z",
            key="",
        )
    )
    fields = (
        "kvs audit head", "node1", LOG, "1", "00" * 64, "1", "2", "ab" * 32, SIGNATURES[1],
        "2023-11-14T22:13:20.000Z", "2023-11-14T22:13:20.000Z", "2023-11-14T23:00:04.000Z",
        "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8",
    )  # fmt: skip
    assert head.statement == "".join(f"{field}\n" for field in fields).encode()
    assert head.signature == (
        "f52237e280207a7fe30d4270a9780beb9dbf9349776ff6fc4abf67c5360930ed"
        "3726d4381d952392d8339e03014007c6505f45bf334a5da94d81fb083a5c8e02"
    )
    assert head.id[:32] == "6eceffebd857c817adaa347a6f01d18f"
    assert encode(head) == (
        b'{"node_id":"node1","log":"0f1e2d3c-4b5a-4978-a6b5-c4d3e2f10213","number":1,"previous":"' + b"00" * 64 + b'",'
        b'"first":1,"last":2,"root":"' + b"ab" * 32 + b'","chain":"' + SIGNATURES[1].encode() + b'",'
        b'"oldest":"2023-11-14T22:13:20.000Z","newest":"2023-11-14T22:13:20.000Z",'
        b'"written":"2023-11-14T23:00:04.000Z","key":"' + head.key.encode() + b'",'
        b'"signature":"' + head.signature.encode() + b'"}'
    )


def test_rows() -> None:
    assert keyspace.audit_row(1).hex() == "61650000000000000001"
    assert keyspace.audit_head_row(7, 2).hex() == "616800000000000000070000000000000002"
    assert keyspace.audit_peer_row("n2").hex() == "61706e32"
    assert keyspace.AUDIT_CONFIG.hex() == "6163"
    assert keyspace.AUDIT_TIP.hex() == "6174"
    assert keyspace.split_audit(keyspace.audit_row(2**40)) == 2**40
    assert keyspace.split_audit_head(keyspace.audit_head_row(7, 2)) == 2
    assert keyspace.split_audit(b"ae12") is keyspace.split_audit_head(b"ah12") is None
