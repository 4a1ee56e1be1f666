"""Writes what an ejabberd of one family keeps in SQLite: FILE with hosts in its rows, as `new_sql_schema` has it, and
with a second argument without. In small pages, so that rows go over several."""
import base64, os, sqlite3, sys

path, is_new = sys.argv[1], len(sys.argv) < 3
if os.path.exists(path):
    os.remove(path)
db = sqlite3.connect(path)
db.execute("PRAGMA page_size=512")
db.execute("PRAGMA journal_mode=DELETE")
HOSTED = {"users", "last", "rosterusers", "rostergroups", "spool", "archive", "vcard", "private_storage", "push_session",
          "privacy_default_list", "privacy_list", "archive_prefs", "muc_room", "motd"}
made = {}


def put(table, at="localhost", **row):
    if table in HOSTED and is_new:
        row["server_host"] = at
    numbered = {"spool": "seq", "archive": "id", "privacy_list": "id", "pubsub_node": "nodeid"}.get(table)
    if table not in made:
        columns = [f"{name} {'bigint' if isinstance(value, int) else 'text'}" for name, value in row.items()]
        if numbered:
            columns.append(f"{numbered} INTEGER PRIMARY KEY AUTOINCREMENT")
        db.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
        made[table] = list(row)
    names = ", ".join(row)
    return db.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", tuple(row.values())).lastrowid


def key(n):
    return base64.b64encode(bytes([n]) * n).decode()


created = "2020-01-01 00:00:00"
kinds = [("romeo", 2, key(20)), ("romeo", 3, key(32))] if is_new else [("romeo", 0, key(20))]
for user, kind, stored in kinds + [("juliet", 0, f"sha256:{key(32)}")]:
    more = {"type": kind} if is_new else {}
    server_key = stored.removeprefix("sha256:")
    put("users", username=user, password=stored, serverkey=server_key, salt=key(16), iterationcount=4096,
        created_at=created, **more)
put("users", username="nurse", password="pencil", serverkey="", salt="", iterationcount=0, created_at=created,
    **({"type": 1} if is_new else {}))
put("users", username="tybalt", password=f"sha512:{key(64)}", serverkey=key(64), salt=key(16), iterationcount=4096,
    created_at=created, **({"type": 0} if is_new else {}))
if is_new:
    put("users", at="elsewhere.example", username="paris", password="x", serverkey="", salt="", iterationcount=0,
        created_at=created, type=1)
put("users", username="laurence", password=key(20), serverkey=key(20), salt=key(16), iterationcount=4096,
    created_at=created, **({"type": 2} if is_new else {}))
put("archive_prefs", username="romeo", created_at=created, always='[{<<"juliet">>,<<"localhost">>,<<"b">>}]',
    never='[{<<>>,<<"spam.example">>,<<>>}]', **{"def": "roster"})
for jid, nick, subscription, ask in (("juliet@localhost", "J & co", "B", "N"), ("nurse@localhost", "", "N", "I"),
                                     ("rosaline@elsewhere.example", "", "N", "O"), ("@@", "", "N", "N")):
    put("rosterusers", username="romeo", jid=jid, nick=nick, subscription=subscription, approved="false", ask=ask,
        askmessage="Let me see you" if ask == "I" else "", server="N", subscribe="", type="item")
for group in ("Friends", "Vérona"):
    put("rostergroups", username="romeo", jid="juliet@localhost", grp=group)
put("vcard", username="romeo", vcard="<vCard xmlns='vcard-temp'><FN>Romeo</FN></vCard>")
put("private_storage", username="romeo", namespace="urn:test:notes",
    data=f"<notes xmlns='urn:test:notes'><n id='1'>{'a &amp; b ' * 200}</n></notes>")
put("private_storage", username="laurence", namespace="jabber:ejabberd:banned",
    data="<banned xmlns='jabber:ejabberd:banned'><reason>A potion</reason></banned>")
put("last", username="romeo", seconds="1577836800", state="")
put("spool", username="romeo", created_at=created,
    xml="<message type='chat' from='juliet@localhost/b' to='romeo@localhost'><body>O</body></message>")
put("spool", username="romeo", created_at=created, xml="<message")
put("push_session", username="romeo", timestamp=1577836800000000, service="push.example", node="n1", xml="")
put("privacy_default_list", username="romeo", name="blocked")
blocked = put("privacy_list", username="romeo", name="blocked")
put("privacy_list", username="romeo", name="other")
for kind, value, action in (("j", "spam.example", "d"), ("g", "Enemies", "d"), ("n", "", "a")):
    put("privacy_list_data", id=blocked, t=kind, value=value, action=action, ord=1, match_all=1, match_iq=0,
        match_message=0, match_presence_in=0, match_presence_out=0)
node = put("pubsub_node", host="romeo@localhost", node="urn:test:node", parent="", plugin="pep")
news = put("pubsub_node", host="pubsub.localhost", node="news", parent="", plugin="flat")
for name, value in (("access_model", "open"), ("max_items", "10"), ("title", '<<"A \\"title\\"">>'), ("persist_items", "true"),
                    ("roster_groups_allowed", "[]"), ("purge_offline", "<0.1.2>")):
    put("pubsub_node_option", nodeid=node, name=name, val=value)
for jid, affiliation, subscriptions in (("romeo@localhost", "o", ""), ("juliet@localhost", "p", "s:6182,p:1")):
    put("pubsub_state", nodeid=node, jid=jid, affiliation=affiliation, subscriptions=subscriptions)
put("pubsub_node_option", nodeid=news, name="access_model", val="authorize")
for jid, affiliation, subscriptions in (("romeo@localhost", "o", "s:1"), ("juliet@localhost", "n", "p:6182")):
    put("pubsub_state", nodeid=news, jid=jid, affiliation=affiliation, subscriptions=subscriptions)
put("pubsub_item", nodeid=news, itemid="one", publisher="romeo@localhost/b", creation="2020-01-01T00:00:00.000000Z",
    modification="2020-01-01T00:00:00.000000Z", payload="<n xmlns='urn:test:news'/>")
for item, stamp in (("two", "2020-01-02T00:00:00.000000Z"), ("one", "2020-01-01T00:00:00.000000Z")):
    put("pubsub_item", nodeid=node, itemid=item, publisher="juliet@localhost/b", creation=stamp, modification=stamp,
        payload=f"<a xmlns='urn:test'>{'y' * 600}</a>")
put("muc_room", name="orchard", host="conference.localhost", opts=
    '[{title,<<"The orchard">>},{persistent,true},{mam,true},{anonymous,false},'
    '{affiliations,[{{<<"romeo">>,<<"localhost">>,<<>>},{owner,<<>>}}]},{subject,[{text,<<>>,<<"But soft">>}]},'
    '{subject_author,{<<"R">>,{jid,<<"romeo">>,<<"localhost">>,<<"r">>,<<"romeo">>,<<"localhost">>,<<"r">>}}}]')
put("muc_room", name="passing", host="conference.localhost", opts="[{persistent,false}]")
put("muc_room", name="broken", host="conference.localhost", opts="[{persistent,")
for n, (user, peer, kind, nick) in enumerate((("romeo", "juliet@localhost/b", "chat", ""),
                                              ("orchard@conference.localhost", "romeo@localhost/r", "groupchat", "R"),
                                              ("romeo", "juliet@localhost/b", "chat", ""))):
    sort = "groupchat" if kind == "groupchat" else "chat"
    put("archive", username=user, timestamp=1577836800000000 + n * 1500, peer=peer, bare_peer=peer.split("/")[0],
        xml=f"<message xml:lang='en' to='x@localhost' from='{peer}' type='{sort}' xmlns='jabber:client'>"
            f"<stanza-id xmlns='urn:xmpp:sid:0' by='romeo@localhost' id='x'/><body>line {n}</body></message>",
        txt=f"line {n}", kind=kind, nick=nick, created_at=created)
put("archive", username="romeo", timestamp=1577836800009000, peer="juliet@localhost/b", bare_peer="juliet@localhost",
    xml=b"\x08\x01".decode(), txt="", kind="chat", nick="", created_at=created)
put("motd", username="", xml="<announcement/>")
db.commit()
db.close()
print(os.path.getsize(path))
