#!/usr/bin/env bash
# Drives real daemons as a user does, with kvs, curl and jq, and says what works: `make integration`.
#
# kvs is the one of .venv (`make run` and `make test` put it there), else the one on the PATH. Where jq is missing, Python
# reads the JSON. Everything happens in a folder of its own under ${TMPDIR:-/tmp}, with its own HOME and KVS_HOME, on free
# ports of the loopback address. What is started is stopped by its pid. Each check prints one line; the exit code is 1 if
# any failed, and the folder is then kept.
set -u

readonly DEADLINE_S=30 # for what should take a second or so, on a machine that others use too
readonly CONFLICT_DEADLINE_S=10
readonly ALL_BITS=4095 OWNER_ONLY=3840 GROUP_MAY_WRITE=3888

WORK=$(mktemp -d "${TMPDIR:-/tmp}/kvs-integration.XXXXXX") || exit 1
PASSED=0 FAILED=0 CODE='' BODY='' OUTPUT='' AUTH=''
NEXT_PORT=$((20000 + RANDOM % 10000))
RED='' GREEN='' BOLD='' PLAIN=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  RED=$'\033[31m' GREEN=$'\033[32m' BOLD=$'\033[1m' PLAIN=$'\033[0m'
fi

# --- what the checks are made of --------------------------------------------------------------------------------------

section() { printf '%s%s%s\n' "$BOLD" "$1" "$PLAIN"; }

pass() {
  PASSED=$((PASSED + 1))
  printf '  %sPASS%s %s\n' "$GREEN" "$PLAIN" "$1"
}

# fail NAME DETAIL
fail() {
  FAILED=$((FAILED + 1))
  printf '  %sFAIL%s %s\n       %s\n' "$RED" "$PLAIN" "$1" "$2"
}

# equal NAME EXPECTED FOUND
equal() {
  if [ "$2" = "$3" ]; then pass "$1"; else fail "$1" "expected '$2', found '$3'"; fi
}

# holds NAME TEXT PART: PART is in TEXT.
holds() {
  case $2 in
    *"$3"*) pass "$1" ;;
    *) fail "$1" "'$3' is not in '$2'" ;;
  esac
}

# until_true SECONDS COMMAND...: whether COMMAND succeeds in time.
until_true() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.1
  done
}

# soon NAME COMMAND...
soon() {
  local name=$1
  shift
  if until_true "$DEADLINE_S" "$@"; then pass "$name"; else fail "$name" "not within $DEADLINE_S s: $*"; fi
}

# run NAME EXIT_CODE COMMAND...: OUTPUT is what it printed, on standard error too.
run() {
  local name=$1 expected=$2 code
  shift 2
  OUTPUT=$("$@" 2>&1 < /dev/null)
  code=$?
  if [ "$code" = "$expected" ]; then pass "$name"; else fail "$name" "exit code $code of '$*': $OUTPUT"; fi
}

# request METHOD URL [CURL_ARGUMENT...]: sets CODE and BODY. AUTH names a file with the header field to send.
request() {
  local method=$1 url=$2
  shift 2
  : > "$WORK/body"
  CODE=$(curl --silent --max-time 20 --dump-header "$WORK/head" --output "$WORK/body" --write-out '%{http_code}' \
    --request "$method" ${AUTH:+--header "@$AUTH"} "$@" "$url" < /dev/null)
  BODY=$(cat "$WORK/body")
}

# asks NAME STATUS METHOD URL [CURL_ARGUMENT...]
asks() {
  local name=$1 expected=$2
  shift 2
  request "$@"
  if [ "$CODE" = "$expected" ]; then pass "$name"; else fail "$name" "status $CODE of '$1 $2': $BODY"; fi
}

# answers STATUS METHOD URL...: for until_true.
answers() {
  local expected=$1
  shift
  request "$@"
  [ "$CODE" = "$expected" ]
}

# head_field NAME: of the last answer.
head_field() { tr -d '\r' < "$WORK/head" | sed -n "s/^$1: //p"; }

# field PATH [JSON]: what stands at a path such as .a.b[0] in JSON, by default in BODY: a text bare, all else as JSON. A
# path may end with " | length". Nothing where there is nothing.
if command -v jq > /dev/null; then
  field() { printf '%s' "${2-$BODY}" | jq -rc "$1 | if . == null then empty else . end" 2> /dev/null; }
else
  field() {
    printf '%s' "${2-$BODY}" | python3 -c '
import json, re, sys
try:
    found = json.load(sys.stdin)
    path, _, length = sys.argv[1].partition(" | ")
    for name, index in re.findall(r"\.(\w+)|\[(-?\d+)\]", path):
        found = found[name or int(index)]
    found = len(found) if length else found
    print(found if isinstance(found, str) else json.dumps(found, separators=(",", ":"))) if found is not None else 0
except (ValueError, LookupError, TypeError):
    pass
' "$1"
  }
fi

# --- nodes ------------------------------------------------------------------------------------------------------------

# config NAME [LINE...]: NAME.yaml in the current folder, with a port that is free now.
config() {
  local name=$1
  shift
  while (: < "/dev/tcp/127.0.0.1/$NEXT_PORT") 2> /dev/null; do NEXT_PORT=$((NEXT_PORT + 1)); done
  printf '%s\n' "node_id: $name" "port: $NEXT_PORT" "data_dir: ./data-$name" "backup_path: ./backups-$name" "$@" \
    > "$name.yaml"
  NEXT_PORT=$((NEXT_PORT + 1))
}

address() { printf '127.0.0.1:%s' "$(sed -n 's/^port: //p' "$1.yaml")"; }
url() { printf 'http://%s' "$(address "$1")"; }
status_of() { field ".$2" "$(kvs status --json "$1" 2> /dev/null)"; }
log_of() { cat "$(status_of "$1" log)"; }
state_is() { [ "$(status_of "$1" state)" = "$2" ]; }
is_ready() { answers 200 GET "$(url "$1")/ready"; }

# bearer FILE TOKEN: a header field in a file, where the arguments of programs do not show it.
bearer() { printf 'Authorization: Bearer %s\n' "$2" > "$1"; }

# root_token NAME: the one that the node shows at its first start.
root_token() { log_of "$1" | sed -n 's/^Token: //p'; }

# puts URL KEY JSON [CURL_ARGUMENT...]
puts() {
  local target=$1 key=$2 json=$3
  shift 3
  request PUT "$target/kv/$key" --header 'Content-Type: application/json' --data "$json" "$@"
}

# value_is NODE KEY JSON
value_is() { answers 200 GET "$(url "$1")/kv/$2" && [ "$(field .data)" = "$3" ]; }
is_gone() { answers 404 GET "$(url "$1")/kv/$2"; }

# version NODE KEY: uuid and timestamp; without a value something that equals no other node's answer.
version() {
  request GET "$(url "$1")/kv/$2"
  if [ "$CODE" = 200 ]; then printf '%s %s' "$(field .uuid)" "$(field .timestamp)"; else printf '%s: %s' "$1" "$CODE"; fi
}

# root NODE: the fingerprint of all that it holds.
root() {
  AUTH='' request GET "$(url "$1")/merkle_tree/root" --header "@$WORK/peer"
  field .root.hash
}

# equal_roots NODE...: whether all hold the same.
equal_roots() {
  local first node
  first=$(root "$1")
  [ -n "$first" ] || return 1
  for node in "$@"; do
    [ "$(root "$node")" = "$first" ] || return 1
  done
}

# sees NODE MEMBER STATUS...: whether NODE lists exactly these members with these statuses.
sees() {
  local node=$1 found i count wanted
  shift
  wanted=$(printf '%s %s\n' "$@" | sort)
  answers 200 GET "$(url "$node")/members/" || return 1
  count=$(field '. | length')
  found=$(for ((i = 0; i < count; i++)); do
    printf '%s %s\n' "$(field ".[$i].id")" "$(field ".[$i].status")"
  done | sort)
  [ "$found" = "$wanted" ]
}

# --- one node ---------------------------------------------------------------------------------------------------------

check_install() {
  section 'Installation'
  run 'kvs --version' 0 kvs --version
  holds 'names a version' "$OUTPUT" '0.'
  run 'kvs --help' 0 kvs --help
  run 'kvs config init makes a configuration' 0 kvs config init fresh.yaml
  run 'which is valid' 0 kvs config check fresh.yaml
  run 'its secret is not shown' 0 kvs config show fresh.yaml
  holds 'but masked' "$OUTPUT" '********'
  run 'kvs config init leaves a file alone' 1 kvs config init fresh.yaml
  printf 'node_idd: x\nport: many\n' > broken.yaml
  run 'a broken configuration is refused' 2 kvs config check broken.yaml
  holds 'with the closest setting' "$OUTPUT" 'node_id'
  holds 'and every other problem' "$OUTPUT" 'port'
  run 'also by kvs start' 2 kvs start broken.yaml
  run 'a wrong command is a wrong usage' 2 kvs nonsense
}

check_daemons() {
  local pid
  section 'Daemons'
  config one
  config two
  run 'kvs status of a node that does not run' 3 kvs status one
  holds 'says STOPPED' "$OUTPUT" 'STOPPED'
  run 'kvs start of several nodes' 0 kvs start one.yaml two.yaml
  holds 'names the address' "$OUTPUT" "$(url two)"
  run 'kvs status, without .yaml' 0 kvs status one
  holds 'says RUNNING' "$OUTPUT" 'RUNNING'
  equal 'as JSON: the mode' normal "$(status_of one mode)"
  asks 'GET /health, open to all' 200 GET "$(url one)/health"
  equal 'it is healthy' healthy "$(field .status)"
  equal 'and names its node' one "$(field .node_id)"
  asks 'GET /ready' 200 GET "$(url two)/ready"
  asks 'GET /metrics' 200 GET "$(url one)/metrics"
  holds 'has metrics' "$BODY" 'kvs_'
  asks 'GET /openapi.json' 200 GET "$(url one)/openapi.json"
  run 'a second start of a running node' 1 kvs start one
  holds 'is told' "$OUTPUT" 'already running'
  printf 'port: %s\ndata_dir: ./data-taken\n' "$(sed -n 's/^port: //p' one.yaml)" > taken.yaml
  run 'a taken port' 1 kvs start taken
  run 'kvs logs' 0 kvs logs one -n 50
  holds 'shows the start' "$OUTPUT" '"Started"'
  pid=$(status_of one pid)
  run 'kvs restart' 0 kvs restart one
  if [ "$(status_of one pid)" != "$pid" ]; then pass 'gives a new process'; else fail 'gives a new process' "$pid"; fi
  run 'kvs stop of several nodes' 0 kvs stop one two
  equal 'status STOPPED' STOPPED "$(status_of one state)"
  run 'stopping what does not run' 1 kvs stop one
  run 'kvs start again' 0 kvs start one
  kill -9 "$(status_of one pid)"
  soon 'after kill -9: status STALE' state_is one STALE
  run 'kvs start after that' 0 kvs start one
  holds 'removes the stale PID file' "$OUTPUT" 'stale'
  kill -9 "$(status_of one pid)"
  soon 'killed again' state_is one STALE
  run 'kvs stop of a stale one' 1 kvs stop one
  equal 'leaves it STOPPED' STOPPED "$(status_of one state)"
}

check_authentication() {
  local user token_id
  section 'Authentication'
  config site
  run 'the first start' 0 kvs start site
  SITE=$(url site)
  bearer root "$(root_token site)"
  AUTH='' asks 'no token' 401 GET "$SITE/kv/a"
  equal 'is a problem document' Unauthorized "$(field .title)"
  holds 'with WWW-Authenticate' "$(head_field WWW-Authenticate)" Bearer
  bearer forged 'eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0.'
  AUTH=forged asks 'a forged token' 401 GET "$SITE/kv/a"
  AUTH=root
  asks 'the root token of the first start' 404 GET "$SITE/kv/a"
  asks 'makes a user' 201 POST "$SITE/api/users" --data '{"nickname":"ada","password":"correct horse"}'
  ADA=$(field .uuid)
  asks 'and another one' 201 POST "$SITE/api/users" --data '{"nickname":"bob"}'
  BOB=$(field .uuid)
  asks 'a nickname is given once' 409 POST "$SITE/api/users" --data '{"nickname":"bob"}'
  for user in "ada $ADA" "bob $BOB"; do
    asks "a token for ${user% *}" 201 POST "$SITE/api/tokens" \
      --data "{\"user_uuid\":\"${user#* }\",\"scopes\":[\"read\",\"write\",\"delete\"]}"
    bearer "${user% *}" "$(field .token)"
  done
  asks 'a token that only reads' 201 POST "$SITE/api/tokens" --data "{\"user_uuid\":\"$BOB\",\"scopes\":[\"read\"]}"
  bearer reader "$(field .token)"
  token_id=$(field .token_id)
  AUTH=reader
  asks 'reads' 404 GET "$SITE/kv/a"
  asks 'and does not write' 403 PUT "$SITE/kv/a" --data '1'
  asks 'nor delete' 403 DELETE "$SITE/kv/a"
  asks 'nor make users' 403 POST "$SITE/api/users" --data '{"nickname":"eve"}'
  asks 'nor speak to a node as its peer' 401 GET "$SITE/merkle_tree/root"
  AUTH=root
  asks 'it is revoked' 204 DELETE "$SITE/api/tokens/$token_id"
  AUTH=reader asks 'and worthless at once' 401 GET "$SITE/kv/a"
  AUTH=''
  asks 'a login' 200 POST "$SITE/api/login" --data '{"nickname":"ada","password":"correct horse"}'
  bearer login "$(field .token)"
  AUTH=login asks 'gives a good token' 404 GET "$SITE/kv/a"
  asks 'a wrong password' 401 POST "$SITE/api/login" --data '{"nickname":"ada","password":"wrong horse"}'
  AUTH=root
  OUTPUT=$(kvs token create --local site.yaml --user ada --scopes read 2> /dev/null)
  bearer local "$OUTPUT"
  AUTH=local asks 'kvs token create --local' 404 GET "$SITE/kv/a"
  run 'kvs user list --local' 0 kvs user list --local site.yaml --json
  equal 'three users' 3 "$(field '. | length' "$OUTPUT")"
}

check_values() {
  local uuid timestamp tag
  section 'Values'
  AUTH=ada
  asks 'PUT of a new key' 201 PUT "$SITE/kv/sites/berlin/limits" --data '{"max_power_kw": 11}'
  uuid=$(field .uuid) timestamp=$(field .timestamp)
  asks 'GET' 200 GET "$SITE/kv/sites/berlin/limits"
  equal 'the uuid' "$uuid" "$(field .uuid)"
  equal 'the timestamp' "$timestamp" "$(field .timestamp)"
  holds 'the value, byte for byte' "$BODY" '{"max_power_kw": 11}'
  tag=$(head_field ETag)
  equal 'the ETag' "\"$uuid\"" "$tag"
  asks 'HEAD' 200 HEAD "$SITE/kv/sites/berlin/limits" --head
  asks 'If-None-Match of what one has' 304 GET "$SITE/kv/sites/berlin/limits" --header "If-None-Match: $tag"
  asks 'PUT of a key that is there' 200 PUT "$SITE/kv/sites/berlin/limits" --data '{"max_power_kw": 22}'
  asks 'If-Match of an old version' 412 PUT "$SITE/kv/sites/berlin/limits" --header "If-Match: $tag" --data '3'
  asks 'If-None-Match: * of a key that is there' 412 PUT "$SITE/kv/sites/berlin/limits" --header 'If-None-Match: *' \
    --data '3'
  asks 'and nothing changed' 200 GET "$SITE/kv/sites/berlin/limits"
  equal 'it is the second value' 22 "$(field .data.max_power_kw)"
  asks 'a blob' 201 PUT "$SITE/kv/notes/valve.txt" --header 'Content-Type: text/plain' --data-binary 'open slowly'
  asks 'comes back' 200 GET "$SITE/kv/notes/valve.txt"
  equal 'as it was' 'open slowly' "$BODY"
  holds 'with its type' "$(head_field Content-Type)" text/plain
  asks 'a key with blanks and umlauts' 201 PUT "$SITE/kv/stra%C3%9Fe/a%20b" --data 'true'
  asks 'is read' 200 GET "$SITE/kv/stra%C3%9Fe/a%20b"
  asks 'DELETE' 204 DELETE "$SITE/kv/notes/valve.txt"
  asks 'the key is gone' 404 GET "$SITE/kv/notes/valve.txt"
  asks 'a second DELETE' 404 DELETE "$SITE/kv/notes/valve.txt"
  asks 'broken JSON' 400 PUT "$SITE/kv/a" --data '{'
  asks 'an empty segment' 400 PUT "$SITE/kv/a//b" --data '1' --path-as-is
  asks 'a reserved key' 400 PUT "$SITE/kv/_own" --data '1'
  asks 'an unknown route' 404 GET "$SITE/nonsense"
  asks 'a wrong method' 405 DELETE "$SITE/health"
  head -c 1100000 /dev/zero | tr '\0' 1 > large
  asks 'a value that is too large' 413 PUT "$SITE/kv/a" --data-binary @large
  asks 'bulk: three items' 200 POST "$SITE/kv/_bulk" \
    --data '[{"op":"put","path":"b/1","data":1},{"op":"put","path":"b/2","data":2},{"op":"delete","path":"b/3"}]'
  equal 'each with its status' '201 201 404' \
    "$(field '.results[0].status') $(field '.results[1].status') $(field '.results[2].status')"
  asks 'a range' 200 GET "$SITE/kv/_range?prefix=b/&limit=1"
  equal 'begins with the first key' b/1 "$(field '.pairs[0].path')"
  asks 'its next page' 200 GET "$SITE/kv/_range?prefix=b/&limit=1&cursor=$(field .next_cursor)"
  equal 'goes on' 2 "$(field '.pairs[0].stored_value.data')"
  asks 'one level of the keys' 200 GET "$SITE/kv/_list?prefix="
  equal 'shows what is below it' b/ "$(field '.entries[0].path')"
}

check_permissions() {
  local group
  section 'Metadata and permissions'
  AUTH=root
  asks 'a value of root' 201 PUT "$SITE/kv/plans/north" --data '"draft"'
  asks 'no metadata before they are set' 404 GET "$SITE/kv/plans/north/metadata"
  asks 'what applies' 200 GET "$SITE/kv/plans/north/metadata?effective=true"
  equal 'the default' 3889 "$(field .permissions)"
  AUTH=bob
  asks 'others read' 200 GET "$SITE/kv/plans/north"
  asks 'others do not write' 403 PUT "$SITE/kv/plans/north" --data '"mine"'
  asks 'others do not delete' 403 DELETE "$SITE/kv/plans/north"
  asks 'nor see foreign metadata' 403 GET "$SITE/kv/plans/north/metadata"
  AUTH=root
  asks 'a group with bob' 201 POST "$SITE/api/groups" --data "{\"groupname\":\"lab\",\"members\":[\"$BOB\"]}"
  group=$(field .uuid)
  asks 'the key is given to the group' 200 PUT "$SITE/kv/plans/north/metadata" \
    --data "{\"group_uuid\":\"$group\",\"permissions\":$GROUP_MAY_WRITE}"
  equal 'the metadata name it' "$group" "$(field .group_uuid)"
  asks 'and can be read' 200 GET "$SITE/kv/plans/north/metadata"
  AUTH=bob asks 'bob writes now' 200 PUT "$SITE/kv/plans/north" --data '"better"'
  AUTH=ada
  asks 'ada does not read any more' 403 GET "$SITE/kv/plans/north"
  asks 'nor in a range' 200 GET "$SITE/kv/_range?prefix=plans/"
  equal 'where it is left out' 0 "$(field '.pairs | length')"
  AUTH=root
  asks 'bob leaves the group' 200 PUT "$SITE/api/groups/$group" --data '{"members":[]}'
  AUTH=bob asks 'and writes no more' 403 PUT "$SITE/kv/plans/north" --data '"again"'
  AUTH=ada
  asks 'the owner of a key' 201 PUT "$SITE/kv/ada/diary" --data '"secret"'
  asks 'keeps it to herself' 200 PUT "$SITE/kv/ada/diary/metadata" --data "{\"permissions\":$OWNER_ONLY}"
  AUTH=bob asks 'so others do not read it' 403 GET "$SITE/kv/ada/diary"
  AUTH=ada
  asks 'she opens it to all' 200 PUT "$SITE/kv/ada/diary/metadata" --data "{\"permissions\":$ALL_BITS}"
  AUTH=bob asks 'and others write' 200 PUT "$SITE/kv/ada/diary" --data '"read it"'
  AUTH=ada
  asks 'impossible bits' 400 PUT "$SITE/kv/ada/diary/metadata" --data '{"permissions":4096}'
}

check_ttl_and_history() {
  local first value
  section 'Time to live and history'
  AUTH=ada
  asks 'a value that lives for a second' 201 PUT "$SITE/kv/sessions/1?ttl=1s" --data '"short"'
  asks 'a value that lives for an hour' 201 PUT "$SITE/kv/sessions/2?ttl=1h" --data '"long"'
  asks 'shows its end' 200 GET "$SITE/kv/sessions/2"
  equal 'an hour later' 3600000 "$(($(field .expires_at) - $(field .timestamp)))"
  asks 'a life in the body' 201 PUT "$SITE/kv/sessions/3" --data '{"data":"x","ttl":"90s"}'
  asks 'a broken life' 400 PUT "$SITE/kv/sessions/4?ttl=soon" --data '1'
  soon 'the short one is gone' is_gone site sessions/1
  asks 'the long one is there' 200 GET "$SITE/kv/sessions/2"
  for value in 1 2 3 4; do puts "$SITE" story "$value"; done
  asks 'the history' 200 GET "$SITE/api/data/story/history"
  equal 'three revisions are kept' 3 "$(field '. | length')"
  equal 'newest first' '4 3 2' "$(field '.[0].data') $(field '.[1].data') $(field '.[2].data')"
  asks 'one revision' 200 GET "$SITE/api/data/story/history/2"
  first=$(field .uuid)
  asks 'restored' 200 POST "$SITE/api/data/story/history/2/restore"
  asks 'it is current' 200 GET "$SITE/kv/story"
  equal 'with its value' 3 "$(field .data)"
  if [ "$(field .uuid)" != "$first" ]; then pass 'as a new version'; else fail 'as a new version' "$BODY"; fi
  asks 'deleted' 204 DELETE "$SITE/kv/story"
  asks 'the history stays' 200 GET "$SITE/api/data/story/history"
  equal 'with the deletion' true "$(field '.[0].deleted')"
  asks 'a revision that is not kept' 404 GET "$SITE/api/data/story/history/9"
  asks 'a revision that is no number' 400 GET "$SITE/api/data/story/history/last"
  asks 'a key without history' 404 GET "$SITE/api/data/nothing/history"
}

check_kill() {
  local n lost=0
  section 'Killed and back'
  AUTH=ada
  for n in 1 2 3 4 5 6 7 8 9 10; do puts "$SITE" "kept/$n" "$n"; done
  kill -9 "$(status_of site pid)"
  soon 'a node is killed with -9' state_is site STALE
  run 'and started' 0 kvs start site
  for n in 1 2 3 4 5 6 7 8 9 10; do value_is site "kept/$n" "$n" || lost=$((lost + 1)); done
  equal 'no acknowledged write is lost' 0 "$lost"
  AUTH=bob asks 'tokens are good as before' 200 GET "$SITE/kv/kept/1"
  run 'the audit log is whole' 0 kvs audit verify site.yaml
}

check_read_only() {
  section 'Read-only mode'
  printf 'read_only: true\n' >> site.yaml
  run 'restarted' 0 kvs restart site
  equal 'kvs status says so' read_only "$(status_of site mode)"
  AUTH=ada
  asks 'reads go on' 200 GET "$SITE/kv/kept/1"
  asks 'a write is refused' 403 PUT "$SITE/kv/kept/1" --data '2'
  equal 'with the reason' read_only "$(field .code)"
  asks 'a delete is refused' 403 DELETE "$SITE/kv/kept/1"
  asks 'GET /ready' 503 GET "$SITE/ready"
  sed -i.old '/^read_only/d' site.yaml
  run 'restarted without it' 0 kvs restart site
  asks 'writes go on' 200 PUT "$SITE/kv/kept/1" --data '"2"'
}

check_backups() {
  local file before
  section 'Backup and restore'
  run 'kvs backup create' 0 kvs backup create --local site.yaml
  file=$(printf '%s' "$OUTPUT" | sed -n 's/^\(\/.*\.zst\)$/\1/p')
  run 'kvs backup verify' 0 kvs backup verify "$file"
  run 'kvs backup list' 0 kvs backup list site.yaml
  holds 'shows it' "$OUTPUT" "${file##*/}"
  AUTH=root
  asks 'GET /api/backup/status' 200 GET "$SITE/api/backup/status"
  equal 'it succeeded' true "$(field .last_backup_success)"
  AUTH=ada
  before=$(version site kept/1)
  asks 'a value is deleted' 204 DELETE "$SITE/kv/kept/2"
  asks 'another one overwritten' 200 PUT "$SITE/kv/kept/3" --data '"newer"'
  config copy 'clustering_enabled: false'
  head -c "$(($(wc -c < "$file") - 100))" "$file" > cut.zst
  run 'a file that was cut is refused' 1 kvs backup restore cut.zst copy.yaml
  if [ -e data-copy ]; then fail 'and nothing is made' data-copy; else pass 'and nothing is made'; fi
  run 'kvs backup restore into an empty folder' 0 kvs backup restore "$file" copy.yaml
  run 'and not into one with data' 1 kvs backup restore "$file" copy.yaml
  run 'the copy starts' 0 kvs start copy
  bearer copied "$(kvs token create --local copy.yaml --scopes all 2> /dev/null)"
  AUTH=copied
  equal 'it has the same version' "$before" "$(version copy kept/1)"
  equal 'what was deleted since' 200 "$(request GET "$(url copy)/kv/kept/2" && printf '%s' "$CODE")"
  asks 'and the permissions' 200 GET "$(url copy)/kv/ada/diary/metadata"
  run 'the copy stops' 0 kvs stop copy
  run 'the backup is merged into the running node' 0 kvs backup restore "$file" --local site.yaml
  AUTH=ada
  asks 'what was deleted stays deleted' 404 GET "$SITE/kv/kept/2"
  asks 'what is newer stays' 200 GET "$SITE/kv/kept/3"
  equal 'with its value' newer "$(field .data)"
  run 'the node stops' 0 kvs stop site
}

# --- clusters ---------------------------------------------------------------------------------------------------------

check_two_nodes() {
  local secret
  section 'Two nodes'
  secret=$(head -c 32 /dev/urandom | base64 | tr -d '\n')
  printf 'X-Cluster-Secret: %s\nX-Node-ID: test\n' "$secret" > peer
  config n1 "cluster_secret: \"$secret\""
  config n2 "cluster_secret: \"$secret\"" "seed_nodes: [\"$(address n1)\"]"
  config n3 "cluster_secret: \"$secret\"" "seed_nodes: [\"$(address n1)\", \"$(address n2)\"]"
  config stranger 'cluster_secret: another-secret-of-others' "seed_nodes: [\"$(address n1)\"]"
  run 'both start' 0 kvs start n1 n2
  bearer cluster "$(root_token n1)"
  equal 'only the first makes a root account' '' "$(root_token n2)"
  AUTH=cluster
  soon 'the second is filled and ready' is_ready n2
  soon 'the first sees both' sees n1 n1 alive n2 alive
  soon 'the second sees both' sees n2 n1 alive n2 alive
  asks 'a write at the first, on both disks' 201 PUT "$(url n1)/kv/doors/north?w=2" --data '"open"'
  soon 'is read at the second' value_is n2 doors/north open
  equal 'with equal uuid and timestamp' "$(version n1 doors/north)" "$(version n2 doors/north)"
  asks 'an overwrite at the second' 200 PUT "$(url n2)/kv/doors/north" --data '"shut"'
  soon 'is read at the first' value_is n1 doors/north shut
  equal 'with equal uuid and timestamp' "$(version n1 doors/north)" "$(version n2 doors/north)"
  asks 'a blob at the second' 201 PUT "$(url n2)/kv/doors/plan" --header 'Content-Type: image/x-test' --data 'P1'
  soon 'is read at the first' answers 200 GET "$(url n1)/kv/doors/plan"
  holds 'with its type' "$(head_field Content-Type)" image/x-test
  asks 'a delete at the first' 204 DELETE "$(url n1)/kv/doors/plan"
  soon 'is seen at the second' is_gone n2 doors/plan
  asks 'a value with an end' 201 PUT "$(url n1)/kv/doors/guest?ttl=3s&w=2" --data '1'
  asks 'is read at the second' 200 GET "$(url n2)/kv/doors/guest"
  soon 'and ends there' is_gone n2 doors/guest
  asks 'more copies than nodes' 400 PUT "$(url n1)/kv/doors/south?w=3" --data '1'
  soon 'equal roots' equal_roots n1 n2
}

check_three_nodes() {
  local n node user token_id
  section 'Three nodes'
  run 'a third one joins' 0 kvs start n3
  soon 'it is filled and ready' is_ready n3
  for node in n1 n2 n3; do soon "$node sees all" sees "$node" n1 alive n2 alive n3 alive; done
  soon 'it has what was written before' value_is n3 doors/north shut
  equal 'with equal uuid and timestamp' "$(version n1 doors/north)" "$(version n3 doors/north)"
  for n in 1 2 3; do
    asks "a write at n$n, on three disks" 201 PUT "$(url "n$n")/kv/by/n$n?w=3" --data "$n"
  done
  for n in 1 2 3; do
    for node in n1 n2 n3; do
      value_is "$node" "by/n$n" "$n" || fail "$node has what n$n took" "$CODE $BODY"
    done
  done
  soon 'equal roots' equal_roots n1 n2 n3
  asks 'a user made at n3' 201 POST "$(url n3)/api/users" --data '{"nickname":"carl"}'
  user=$(field .uuid)
  soon 'is known at n2' answers 200 GET "$(url n2)/api/users/$user"
  asks 'a token made at n2' 201 POST "$(url n2)/api/tokens" --data "{\"user_uuid\":\"$user\",\"scopes\":[\"read\"]}"
  bearer carl "$(field .token)"
  token_id=$(field .token_id)
  AUTH=carl soon 'is good at n1' answers 200 GET "$(url n1)/kv/doors/north"
  asks 'revoked at n3' 204 DELETE "$(url n3)/api/tokens/$token_id"
  AUTH=carl soon 'it is worthless at n1' answers 401 GET "$(url n1)/kv/doors/north"
  run 'kvs cluster status' 0 kvs cluster status --local n2.yaml
  holds 'shows the others' "$OUTPUT" n3
  AUTH='' asks 'a peer without the secret' 401 GET "$(url n1)/merkle_tree/root"
  run 'a node with another secret starts' 0 kvs start stranger
  soon 'it is refused, and the log says why' log_has n1 'A peer was refused: wrong or missing secret'
  soon 'it sees itself alone' sees stranger stranger alive
  run 'and stops' 0 kvs stop --force stranger
}

log_has() {
  case $(log_of "$1") in
    *"$2"*) ;;
    *) return 1 ;;
  esac
}

sees_down() { ! sees n1 n1 alive n2 alive n3 alive; }

check_lost_node() {
  local n unequal=0
  section 'A node is killed and comes back'
  AUTH=cluster
  kill -9 "$(status_of n3 pid)"
  soon 'the others notice' sees_down
  for n in 1 2 3 4 5 6 7 8 9 10; do puts "$(url n1)" "meanwhile/$n" "$n"; done
  asks 'writes go on' 201 PUT "$(url n2)/kv/meanwhile/11" --data '11'
  asks 'deletes too' 204 DELETE "$(url n2)/kv/by/n3"
  asks 'a third copy is not to be had' 202 PUT "$(url n1)/kv/meanwhile/12?w=3&timeout=300ms" --data '12'
  run 'it is started again' 0 kvs start n3
  soon 'it gets what was written' value_is n3 meanwhile/11 11
  soon 'and what was deleted' is_gone n3 by/n3
  soon 'all see it' sees n1 n1 alive n2 alive n3 alive
  soon 'equal roots' equal_roots n1 n2 n3
  for n in 1 2 3 4 5 6 7 8 9 10; do
    [ "$(version n1 "meanwhile/$n")" = "$(version n3 "meanwhile/$n")" ] || unequal=$((unequal + 1))
  done
  equal 'with equal uuid and timestamp of every key' 0 "$unequal"
  run 'a node stops and says goodbye' 0 kvs stop n3
  soon 'the others know' sees n1 n1 alive n2 alive n3 left
  rm -rf data-n3
  run 'it starts with an empty folder' 0 kvs start n3
  soon 'and gets everything' equal_roots n1 n2 n3
  run 'all stop' 0 kvs stop n1 n2 n3
}

both_agree() {
  value_is older test/conflict/data '{"written_by":"conflict-older"}' &&
    value_is newer test/conflict/data '{"written_by":"conflict-older"}'
}

check_conflict() {
  section 'Conflict'
  run 'kvs debug make-conflict' 0 kvs debug make-conflict data-older data-newer
  config older 'cluster_secret: the-secret-of-two-nodes' 'auth_enabled: false' 'sync_interval: 3'
  config newer 'cluster_secret: the-secret-of-two-nodes' 'auth_enabled: false' 'sync_interval: 3' \
    "seed_nodes: [\"$(address older)\"]"
  printf 'X-Cluster-Secret: the-secret-of-two-nodes\nX-Node-ID: test\n' > peer
  AUTH=''
  run 'both nodes start' 0 kvs start older newer
  if until_true "$CONFLICT_DEADLINE_S" both_agree; then
    pass "they agree on the older node's value within $CONFLICT_DEADLINE_S s"
  else
    fail "they agree on the older node's value within $CONFLICT_DEADLINE_S s" "$BODY"
  fi
  equal 'on one version' "$(version older test/conflict/data)" "$(version newer test/conflict/data)"
  case $(log_of older)$(log_of newer) in
    *'Conflict resolved'*) pass 'the log says: Conflict resolved' ;;
    *) fail 'the log says: Conflict resolved' "$(log_of older | tail -n 3)" ;;
  esac
  soon 'equal roots' equal_roots older newer
  run 'both stop' 0 kvs stop older newer
}

# --- all of it --------------------------------------------------------------------------------------------------------

# Stops what still runs under this KVS_HOME, by the pids of its PID files.
clean_up() {
  local running name
  trap - EXIT
  running=$(kvs status 2> /dev/null | sed -n 's/^\([^ ]*\) *RUNNING.*/\1/p')
  for name in $running; do kvs stop --force --timeout 5 "$name" > /dev/null 2>&1; done
  cd / || exit 1
  if [ "$FAILED" -gt 0 ]; then
    printf 'Logs and data are in %s\n' "$WORK"
  else
    rm -rf "$WORK"
  fi
}

main() {
  local here name began=$SECONDS
  here=$(cd "$(dirname "$0")" && pwd)
  for name in $(env | sed -n 's/^\(KVS_[A-Z_]*\)=.*/\1/p'); do unset "$name"; done
  export HOME="$WORK" KVS_HOME="$WORK/home"
  [ -x "$here/.venv/bin/kvs" ] && PATH="$here/.venv/bin:$PATH"
  for name in kvs curl; do
    command -v "$name" > /dev/null || { printf 'integration_test.sh needs %s, which is not there\n' "$name" && exit 1; }
  done
  command -v jq > /dev/null || printf 'There is no jq: python3 reads the JSON.\n'
  command -v jq > /dev/null || command -v python3 > /dev/null || { printf 'Nor is there python3.\n' && exit 1; }
  umask 077
  cd "$WORK" || exit 1
  trap clean_up EXIT
  trap 'exit 130' INT TERM
  check_install
  check_daemons
  check_authentication
  check_values
  check_permissions
  check_ttl_and_history
  check_kill
  check_read_only
  check_backups
  check_two_nodes
  check_three_nodes
  check_lost_node
  check_conflict
  printf '\n%s%d passed, %d failed%s in %d s\n' "$BOLD" "$PASSED" "$FAILED" "$PLAIN" $((SECONDS - began))
  [ "$FAILED" -eq 0 ]
}

main "$@"
