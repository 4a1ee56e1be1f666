"""Writes tests/moving/prosody.sqlite: what a Prosody of one family keeps in SQL, in small pages so that rows go over
several and the trees have levels."""
import json, os, sqlite3, sys
path = sys.argv[1]
if os.path.exists(path): os.remove(path)
db = sqlite3.connect(path)
db.execute("PRAGMA page_size=512"); db.execute("PRAGMA journal_mode=DELETE")
db.execute('CREATE TABLE "prosody" ("host" TEXT NOT NULL, "user" TEXT NOT NULL, "store" TEXT NOT NULL, "key" TEXT NOT NULL, "type" TEXT NOT NULL, "value" TEXT NOT NULL)')
db.execute('CREATE UNIQUE INDEX "prosody_unique_index" ON "prosody" ("host", "user", "store", "key")')
db.execute('CREATE TABLE "prosodyarchive" ("sort_id" INTEGER PRIMARY KEY AUTOINCREMENT, "host" TEXT NOT NULL, "user" TEXT NOT NULL, "store" TEXT NOT NULL, "key" TEXT NOT NULL, "when" INTEGER NOT NULL, "with" TEXT NOT NULL, "type" TEXT NOT NULL, "value" TEXT NOT NULL)')
H="localhost"
def kv(user, store, key, value, host=H):
    t = "string" if isinstance(value, str) else "boolean" if isinstance(value, bool) else "number" if isinstance(value,(int,float)) else "json"
    text = value if t=="string" else str(value).lower() if t in("boolean","number") else json.dumps(value)
    db.execute("INSERT INTO prosody VALUES (?,?,?,?,?,?)",(host,user,store,key,t,text))
for k,v in dict(iteration_count=4096, salt="A%QSXCR", stored_key="e9d94660c39d65c38fbad91c358f14da0eef2bd6", server_key="0fe09258b3ac852ba502cc62ba903eaacdbf7d31").items():
    kv("romeo","accounts",k,v)
for i in range(40):
    kv(f"user{i:02}","accounts","password",f"pencil{i}")
kv("romeo","roster","juliet@elsewhere.example",{"subscription":"both","groups":{"Friends":True},"name":"J"})
kv("romeo","roster","",{"__hash":[False,{"version":3,"pending":{"nurse@localhost":True}}]})
kv("romeo","blocklist","spam.example",1500000000)
kv("romeo","blocklist","",{"__hash":[False,{"created":1}]})
kv("romeo","private","notes:urn:test:notes",{"name":"notes","attr":{"xmlns":"urn:test:notes"},"__array":[{"name":"n","attr":{},"__array":["x"*3000]}]})
kv("romeo","vcard","name","vCard"); kv("romeo","vcard","attr",{"xmlns":"vcard-temp"}); kv("romeo","vcard","",[{"name":"FN","attr":[],"__array":["Romeo"]}])
kv("romeo","pep","urn:test:node",{"name":"urn:test:node","config":{"access_model":"open","max_items":"max"},"subscribers":[],"affiliations":[]})
kv("romeo","cloud_notify","push.example<n1",{"jid":"push.example","node":"n1"})
kv("romeo","account_roles","_default","prosody:admin")
kv("romeo","reminders","x",True)
kv("romeo","archive_prefs","juliet@elsewhere.example",True); kv("romeo","archive_prefs","spam.example",False)
kv("romeo","archive_prefs","",{"__hash":[False,"roster"]})
kv("laurence","accounts","password","x"); kv("laurence","accounts","disabled",True)
kv("ghost","roster","romeo@localhost",{"subscription":"both"})
kv("half","accounts","stored_key","e9d9"); kv("half","accounts","salt","x")
kv("orchard","config","_jid","orchard@conference.localhost","conference.localhost")
kv("orchard","config","_data",{"persistent":True,"name":"The orchard","subject":"But soft"},"conference.localhost")
kv("orchard","config","romeo@localhost","owner","conference.localhost")
kv("","persistent","orchard@conference.localhost",True,"conference.localhost")
kv("juliet","accounts","password","x","elsewhere.example")
for k,v in dict(name="news", config={"title":"News"}, subscribers={"juliet@elsewhere.example":True}, affiliations={"romeo@localhost":"owner"}).items():
    kv("news","pubsub_nodes",k,v,"pubsub.localhost")
def ar(user, store, key, when, w, xml, host=H):
    db.execute('INSERT INTO prosodyarchive ("host","user","store","key","when","with","type","value") VALUES (?,?,?,?,?,?,?,?)',(host,user,store,key,when,w,"xml",xml))
for i in range(60):
    ar("romeo","pep_urn:test:node",f"item{i:02}",1577836800+i,"romeo@localhost",f"<a xmlns='urn:test'>{'y'*200}{i}</a>")
ar("romeo","offline","o1",1577836800,"","<message type='chat' from='juliet@elsewhere.example/r' to='romeo@localhost'><body>O</body></message>")
ar("romeo","offline","o2",1577836801,"","<message type='chat'")
ar("romeo","archive","m1",1577836800,"juliet@elsewhere.example","<message><body>x</body></message>")
for i in range(3):
    ar("orchard","muc_log",f"k{i}",1577836800+i,"message<groupchat",f"<message type='groupchat' from='orchard@conference.localhost/romeo'><body>{i}</body></message>","conference.localhost")
for i in range(2):
    ar("","pubsub_news",f"n{i}",1577836800+i,"romeo@localhost",f"<n xmlns='urn:test:news'>{i}</n>","pubsub.localhost")
db.commit(); db.execute("DELETE FROM prosody WHERE user='user07'"); db.commit(); db.close()
print(os.path.getsize(path))
