"""A node that is started again knows all it knew about accounts, and no more."""

from pathlib import Path

from tests.api.accounts import place

PASSWORD = "correct horse"


def test_accounts_outlive_the_node(tmp_path: Path) -> None:
    with place(tmp_path / "data") as at:
        ask = at.root.ask
        team, left = at.group(), at.group()
        member, lost, gone = at.user(groups=[team]), at.user(groups=[team, left]), at.user(*("read", "write"))
        revoked = ask.call("POST", "/api/tokens", {"user_uuid": member.uuid, "scopes": ["read"]}).json
        short = at.caller(at.token(member.uuid, ["read"], expires_in=10))
        with_password = at.user(password=PASSWORD, scopes=["read"])
        assert member.ask.put("/kv/team/plan", b"1").status == 201
        metadata = {"group_uuid": team, "permissions": 0xFF0}
        assert member.ask.call("PUT", "/kv/team/plan/metadata", metadata).status == 200
        assert lost.ask.get("/kv/team/plan").status == 200

        assert ask.call("PUT", f"/api/groups/{team}", {"members": [member.uuid]}).status == 200
        assert ask.delete(f"/api/users/{gone.uuid}").status == 204
        assert ask.delete(f"/api/groups/{left}").status == 204
        assert ask.delete(f"/api/tokens/{revoked['token_id']}").status == 204
        lists = ("/api/users?limit=1000", "/api/groups?limit=1000", "/api/tokens?limit=1000")
        before = [ask.get(target).body for target in lists]
        cursor = ask.get("/api/users?limit=1").json["next_cursor"]

        at.restart()
        assert [ask.get(target).body for target in lists] == before
        assert len(ask.pages("/api/users?limit=1", "users", cursor)) == len(ask.get(lists[0]).json["users"]) - 1
        member, lost, gone, with_password = (at.again(person) for person in (member, lost, gone, with_password))
        assert member.ask.get("/kv/team/plan").json["data"] == 1
        assert member.ask.get("/kv/team/plan/metadata").json["permissions"] == 0xFF0
        assert (lost.ask.get("/kv/absent").status, lost.ask.get("/kv/team/plan").status) == (404, 403)
        assert at.caller(revoked["token"]).get("/kv/absent").status == 401
        assert gone.ask.get("/kv/absent").status == 401
        assert ask.get(f"/api/users/{gone.uuid}").status == ask.get(f"/api/groups/{left}").status == 404
        assert ask.get(f"/api/users?nickname={gone.nickname.replace(' ', '+')}").json["users"] == []
        found = ask.get(f"/api/users?nickname={member.nickname.replace(' ', '+')}").json["users"]
        assert [user["uuid"] for user in found] == [member.uuid]
        taken = ask.call("POST", "/api/users", {"nickname": member.nickname})
        assert (taken.status, taken.code) == (409, "nickname_taken")
        made = at.caller().call("POST", "/api/login", {"nickname": with_password.nickname, "password": PASSWORD})
        assert at.caller(made.json["token"]).get("/kv/absent").status == 404

        at.clock.now_ms += 10_000
        assert at.caller(short.authorization.removeprefix("Bearer ")).get("/kv/absent").status == 401
        assert member.ask.delete("/kv/team/plan").status == 204


def test_a_node_makes_a_root_once(tmp_path: Path) -> None:
    with place(tmp_path / "data") as at:
        first = at.node.first_account
        assert set(first) == {"User UUID", "Group UUID", "Token", "Expires"}
        root = at.root.ask.get(f"/api/users/{first['User UUID']}").json
        admins = at.root.ask.get(f"/api/groups/{first['Group UUID']}").json
        assert (root["groups"], admins["members"]) == ([admins["uuid"]], [root["uuid"]])
        for name, uuid in (("users?nickname=root", root["uuid"]), ("groups?groupname=admin", admins["uuid"])):
            kind = name.partition("?")[0]
            assert [found["uuid"] for found in at.root.ask.get(f"/api/{name}").json[kind]] == [uuid]
        at.restart()
        assert [user["uuid"] for user in at.root.ask.get("/api/users").json["users"]] == [root["uuid"]]
        other = at.user()
        assert at.root.ask.delete(f"/api/users/{root['uuid']}").status == 204
        at.restart()
        assert at.again(other).ask.get("/kv/absent").status == 404
