"""The table of all routes. The order matters where two templates match: the first wins."""

from kvs.auth import scopes
from kvs.auth.tokens import SigningKey
from kvs.server.access import (
    AUDIT,
    BACKUP,
    BULK,
    DELETE,
    METADATA_READ,
    METADATA_WRITE,
    MONITORING,
    OPEN,
    PEER,
    READ,
    STATUS,
    WRITE,
    token,
)
from kvs.server.handlers.audit import Audit, AuditPeers
from kvs.server.handlers.backups import BackupRoutes
from kvs.server.handlers.bulk import Bulk
from kvs.server.handlers.cluster_status import ClusterStatus
from kvs.server.handlers.context import Context
from kvs.server.handlers.description import Description
from kvs.server.handlers.groups import Groups
from kvs.server.handlers.history import History
from kvs.server.handlers.listing import Listing
from kvs.server.handlers.members import Members
from kvs.server.handlers.metadata import MetadataRoutes
from kvs.server.handlers.metrics import MetricsRoute
from kvs.server.handlers.node import NodeStatus
from kvs.server.handlers.peers import Peers
from kvs.server.handlers.tokens import Tokens
from kvs.server.handlers.users import Users
from kvs.server.handlers.values import Values
from kvs.server.handlers.watch import Watch
from kvs.server.router import Route


def routes(
    context: Context,
    token_key: SigningKey | None,
    backups: BackupRoutes,
    members: Members | None = None,
    peers: Peers | None = None,
    status: ClusterStatus | None = None,
    metrics: MetricsRoute | None = None,
    audit_peers: AuditPeers | None = None,
) -> list[Route]:
    """Every resource this node answers. A GET route answers HEAD too. `token_key` signs tokens; None when
    authentication is switched off, and with it the account routes. `members`, `peers`, `status` and `audit_peers` are
    None without a cluster, `metrics` when nothing is measured."""
    made = [
        *_data_routes(context),
        *_backup_routes(backups),
        *_audit_routes(Audit(context)),
        *(_account_routes(context, token_key) if token_key else ()),
        *(_member_routes(members) if members else ()),
        *(_peer_routes(peers) if peers else ()),
        *(_status_routes(status, gives_secret=token_key is not None) if status else ()),
        *([Route("POST", "/audit/heads", PEER, audit_peers.heads)] if audit_peers else ()),
        *((Route("GET", "/metrics", MONITORING, metrics.get),) if metrics else ()),
    ]
    description = Description(context, made, asks=token_key is not None)
    made.append(Route("GET", "/openapi.json", OPEN, description.get))
    return made


def _data_routes(context: Context) -> list[Route]:
    values, metadata, listing = Values(context), MetadataRoutes(context), Listing(context)
    bulk, history, status = Bulk(context), History(context), NodeStatus(context)
    return [
        Route("GET", "/kv/_range", READ, listing.range),
        Route("GET", "/kv/_list", READ, listing.list),
        Route("POST", "/kv/_bulk", BULK, bulk.post),
        Route("GET", "/kv/{key}/metadata", METADATA_READ, metadata.get),
        Route("PUT", "/kv/{key}/metadata", METADATA_WRITE, metadata.put),
        Route("GET", "/kv/{key}", READ, values.get),
        Route("PUT", "/kv/{key}", WRITE, values.put),
        Route("DELETE", "/kv/{key}", DELETE, values.delete),
        Route("POST", "/api/data/{key}/history/{n}/restore", WRITE, history.restore),
        Route("GET", "/api/data/{key}/history", READ, history.list),
        Route("GET", "/api/data/{key}/history/{n}", READ, history.get),
        Route("GET", "/watch", READ, Watch(context.watching).get),
        Route("GET", "/health", MONITORING, status.health),
        Route("GET", "/ready", MONITORING, status.ready),
    ]


def _backup_routes(backups: BackupRoutes) -> list[Route]:
    return [
        Route("POST", "/api/backup", BACKUP, backups.create),
        Route("GET", "/api/backup", BACKUP, backups.list),
        Route("GET", "/api/backup/status", BACKUP, backups.status),
        Route("POST", "/api/backup/restore", BACKUP, backups.restore),
    ]


def _member_routes(members: Members) -> list[Route]:
    return [
        Route("GET", "/members/", MONITORING, members.list),
        Route("GET", "/members", MONITORING, members.list),
        Route("POST", "/members/join", PEER, members.join),
        Route("DELETE", "/members/leave", PEER, members.leave),
        Route("POST", "/members/gossip", PEER, members.gossip),
        Route("POST", "/members/ping", PEER, members.ping),
        Route("POST", "/members/ping_req", PEER, members.ping_req),
    ]


def _peer_routes(peers: Peers) -> list[Route]:
    return [
        Route("POST", "/members/pairs_by_time", PEER, peers.pairs_by_time),
        Route("GET", "/merkle_tree/root", PEER, peers.root),
        Route("GET", "/sync/merkle/root", PEER, peers.root),
        Route("POST", "/merkle_tree/diff", PEER, peers.diff),
        Route("POST", "/kv_range", PEER, peers.kv_range),
        Route("POST", "/replicate", PEER, peers.replicate),
    ]


def _status_routes(status: ClusterStatus, *, gives_secret: bool) -> list[Route]:
    """The secret of the cluster is for nobody where nobody is asked who he is."""
    bootstrap = Route("GET", "/auth/cluster-bootstrap", token(scopes.TOKENS_CREATE), status.bootstrap)
    return [
        Route("GET", "/api/cluster/status", STATUS, status.status),
        *((bootstrap,) if gives_secret else ()),
    ]


def _audit_routes(audit: Audit) -> list[Route]:
    return [
        Route("GET", "/api/audit", AUDIT, audit.entries),
        Route("GET", "/api/audit/heads", AUDIT, audit.heads),
        Route("GET", "/api/audit/kept", AUDIT, audit.kept),
    ]


def _account_routes(context: Context, token_key: SigningKey) -> list[Route]:
    """Each resource under both of its names."""
    users, groups, tokens = Users(context), Groups(context), Tokens(context, token_key)
    made = [Route("POST", "/api/login", OPEN, tokens.login)]
    for root in ("/api", "/auth"):
        made += [
            Route("POST", f"{root}/users", token(scopes.USERS_CREATE), users.create),
            Route("GET", f"{root}/users", token(scopes.USERS_READ), users.list),
            Route("GET", f"{root}/users/{{uuid}}", token(scopes.USERS_READ), users.get),
            Route("PUT", f"{root}/users/{{uuid}}", token(scopes.USERS_UPDATE), users.update),
            Route("DELETE", f"{root}/users/{{uuid}}", token(scopes.USERS_DELETE), users.delete),
            Route("POST", f"{root}/groups", token(scopes.GROUPS_CREATE), groups.create),
            Route("GET", f"{root}/groups", token(scopes.GROUPS_READ), groups.list),
            Route("GET", f"{root}/groups/{{uuid}}", token(scopes.GROUPS_READ), groups.get),
            Route("PUT", f"{root}/groups/{{uuid}}", token(scopes.GROUPS_UPDATE), groups.update),
            Route("DELETE", f"{root}/groups/{{uuid}}", token(scopes.GROUPS_DELETE), groups.delete),
            Route("POST", f"{root}/tokens", token(scopes.TOKENS_CREATE), tokens.create),
            Route("GET", f"{root}/tokens", token(scopes.TOKENS_READ), tokens.list),
            Route("DELETE", f"{root}/tokens/{{token_id}}", token(scopes.TOKENS_REVOKE), tokens.revoke),
        ]
    return made
